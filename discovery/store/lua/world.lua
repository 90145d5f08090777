-- Read what the world is, or create it. Data of format 1 has no such record: it is one shard, with a feed kept whole.
-- KEYS: world (hash), feed of shard 0. ARGV: format of this version, shards of a new world.
-- Returns {format, shards}; a later format is left as it is.
local format, shards = unpack(redis.call('HMGET', KEYS[1], 'format', 'shards'))
if not format then
    shards = redis.call('EXISTS', KEYS[2]) == 1 and '1' or ARGV[2]
end
if not format or tonumber(format) < tonumber(ARGV[1]) then
    format = ARGV[1]
    redis.call('HSET', KEYS[1], 'format', format, 'shards', shards)
end
return {format, shards}
