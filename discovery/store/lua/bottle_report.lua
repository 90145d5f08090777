-- Hide a bottle from who reports it, count the report, and with enough distinct reporters hold the bottle.
-- KEYS 4 bottle, 5 seen (of the reporter's person), 6 case, 7 cases.
-- ARGV 1 id, 2 caller, 3 person, 4 target, 5 reporter (keyed hash), 6 reason, 7 note, 8 report id,
-- 9 reporters for a hold, 10 ms that a case is kept.
-- Reply ok | none. Only who held the bottle counts: its present and past holders and, once it is answered, its author.
local BOTTLE, SEEN, CASE, CASES = KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local id, caller, person, target = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local LAST_REPLIES = 50
sweep()
settle(id)
local b = redis.call('HMGET', BOTTLE, 'state', 'author', 'holder', 'person', 'hid', 'pos', 'text', 'lang')
local state, author, holder = b[1], b[2], b[3]
if not state or state == 'd' then return 'none' end
local answered = state ~= 'p' and holder
local wrote = author == caller and answered
local held_it = b[4] ~= person and (holder == caller or redis.call('ZSCORE', SEEN, id))
if not wrote and not held_it then return 'none' end

-- Hidden from the reporter at once: an unanswered one goes back to the sea, of a thread the side is noted.
local function hide()
  if holder == caller and state == 'p' then
    to_sea(id, caller)
    holder, state = false, 'f'
    return
  end
  local side = (wrote and 'a') or (holder == caller and 'h')
  if side and not string.find(b[5] or '', side, 1, true) then
    redis.call('HSET', BOTTLE, 'hid', (b[5] or '') .. side)
  end
end

-- What the moderator will look at: the bottle itself may end before.
local function keep_content()
  local replies = redis.call('LRANGE', replies_key(id), -LAST_REPLIES, -1)
  redis.call('HSET', CASE, 'content', cjson.encode(
    {text = b[7], language = b[8], author = author, holder = answered and holder or '', replies = replies}))
  redis.call('HSETNX', CASE, 'accused', wrote and holder or author)
end

hide()
local open, new = count_report(CASE, CASES, target, ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[10], now_us)
if new then keep_content() end
if open >= tonumber(ARGV[9]) and state ~= 'm' then hold_for_moderation(id, state, holder) end
return 'ok'
