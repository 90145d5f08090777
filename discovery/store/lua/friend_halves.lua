-- Halves of friendships that the app's backend asks about, adds, removes or takes back; owners of one shard, one entry.
-- KEYS: feed, then for each half: halves of its owner, blocks of its owner.
-- ARGV: how many halves a person may have; then for each half: owner, other, op, guardian ('0' or '1'). Ops:
--   check   'ok', 'declined_by_person' when the owner declined, hides or blocks the other, or 'too_many_friends' when the
--           owner has no room for another half; changes nothing
--   add     as check, and if 'ok' the half stands: 'new' if there was none, 'changed' if a guardian vouched, or 'same'
--   remove  the half is gone, unless the person declined, which stays: 'changed' or 'same'
--   undo    of an add that said 'new': the half is gone if it still is what add wrote: 'changed' or 'same'
-- A person's own unfriend (declined), hide (hidden) or block is never undone, a precision never raised.
-- Returns {entry id, status of each half...}; without a change the newest one: folding up to it shows the halves.
local records, out = {}, {''}

-- Precision, end in ms and guardian of a stored half.
local function parts(half)
  return string.match(half or '', '^([^|]+)|(%d+)|(%d)')
end

-- A half as the feed carries it: owner, other, precision (null removes it), end in ms (0: none), guardian.
local function tell(owner, other, precision, ends, guardian)
  records[#records + 1] = cjson.encode({owner, other, precision, tonumber(ends), guardian == '1'})
end

-- Whom the owner of ``blocks`` blocked, read once: nothing here changes it, and one owner may have many rows.
local blocked = {}
local function blocked_in(blocks)
  if not blocked[blocks] then
    blocked[blocks] = {}
    for _, person in ipairs(redis.call('HVALS', blocks)) do
      blocked[blocks][person] = true
    end
  end
  return blocked[blocks]
end

-- Why the half may not stand; nil when it may.
local function refusal(halves, blocks, other)
  local old = parts(redis.call('HGET', halves, other))
  if old == 'declined' or old == 'hidden' or blocked_in(blocks)[other] then
    return 'declined_by_person'
  end
  if not old and redis.call('HLEN', halves) >= tonumber(ARGV[1]) then
    return 'too_many_friends'
  end
end

local function add(halves, owner, other, guardian)
  local old, ends, vouched = parts(redis.call('HGET', halves, other))
  if old and (guardian == '0' or vouched == '1') then
    return 'same'
  end
  redis.call('HSET', halves, other, (old or 'area') .. '|' .. (ends or '0') .. '|' .. guardian)
  tell(owner, other, old or 'area', ends or '0', guardian)
  return old and 'changed' or 'new'
end

local function remove(halves, owner, other)
  redis.call('HDEL', halves, other)
  tell(owner, other, cjson.null, '0', '0')
  return 'changed'
end

for i = 0, (#KEYS - 1) / 2 - 1 do
  local halves, blocks = KEYS[2 * i + 2], KEYS[2 * i + 3]
  local owner, other, op, guardian = ARGV[4 * i + 2], ARGV[4 * i + 3], ARGV[4 * i + 4], ARGV[4 * i + 5]
  local status = 'same'
  if op == 'check' or op == 'add' then
    status = refusal(halves, blocks, other) or op == 'check' and 'ok' or add(halves, owner, other, guardian)
  else
    local half = redis.call('HGET', halves, other)
    local ours = half == 'area|0|' .. guardian
    if half and (op == 'undo' and ours or op == 'remove' and parts(half) ~= 'declined') then
      status = remove(halves, owner, other)
    end
  end
  out[#out + 1] = status
end
if #records > 0 then
  out[1] = redis.call('XADD', KEYS[1], '*', 'k', 'f', 'd', '[' .. table.concat(records, ',') .. ']')
else
  local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
  out[1] = last[1] and last[1][1] or '0-0'
end
return out
