-- Read what the world is, or create it. Data of format 1 has no such record, and no fence: it is one shard, with a feed
-- kept whole. A feed that workers lead but no record: the state was emptied under them.
-- KEYS: world (hash), feed and fence of shard 0. ARGV: format of this version, shards of a new world.
-- Returns {format, shards}; a later format is left as it is, and a record that is not whole (a copy is under way).
local format, shards = unpack(redis.call('HMGET', KEYS[1], 'format', 'shards'))
if not format and redis.call('EXISTS', KEYS[1]) == 1 then return {ARGV[1], ARGV[2]} end
if not format then
    local is_format_1 = redis.call('EXISTS', KEYS[2]) == 1 and redis.call('EXISTS', KEYS[3]) == 0
    shards = is_format_1 and '1' or ARGV[2]
end
if not format or tonumber(format) < tonumber(ARGV[1]) then
    format = ARGV[1]
    redis.call('HSET', KEYS[1], 'format', format, 'shards', shards)
end
return {format, shards}
