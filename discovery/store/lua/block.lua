-- Block: the blocker's entry, the end of what the blocker showed that person, and the feed, in one step.
-- KEYS: blocks (hash) of the blocker, friend halves (hash) of the blocker, feed. All of the blocker's tag.
-- ARGV: payload, name as the blocker sees it, blocked person, how many blocks a person may have.
-- A name of the blocker's own list, sent back as if it were a person's id, changes nothing: it goes on standing for whom it
-- stands for (a bottle's sender), who would else be unblocked.
-- Returns {1, entry id} or, when the block stands already, {0, id of the newest entry}; {-1, the same} when there is no
-- room for another.
local standing = redis.call('HGET', KEYS[1], ARGV[2])
local full = not standing and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4])
if full or standing and (standing == ARGV[3] or ARGV[2] == ARGV[3]) then
  local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)
  return {full and -1 or 0, last[1] and last[1][1] or '0-0'}
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
if redis.call('HEXISTS', KEYS[2], ARGV[3]) == 1 then
  redis.call('HSET', KEYS[2], ARGV[3], 'declined|0|0')
end
return {1, redis.call('XADD', KEYS[3], '*', 'k', 'x', 'd', ARGV[1])}
