#!lua flags=no-writes
-- Whole keys for a backup or a copy. The flag lets it run while CLIENT PAUSE ... WRITE holds back everybody's writes.
-- KEYS: any keys of one tag. ARGV: most elements of a key to be read here; larger ones are read in pages.
-- Returns for each key {type, expiry in ms since 1970 (-1 = none), elements}: a hash as fields and values, a zset as
-- members and scores. Type 'none' for a key that is not there; elements false for a stream and for what is too large.
local most = tonumber(ARGV[1])
local size = {string = 'EXISTS', hash = 'HLEN', set = 'SCARD', zset = 'ZCARD', list = 'LLEN'}
local out = {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  local elements = false
  if size[kind] and redis.call(size[kind], key) <= most then
    if kind == 'string' then
      elements = {redis.call('GET', key)}
    elseif kind == 'hash' then
      elements = redis.call('HGETALL', key)
    elseif kind == 'set' then
      elements = redis.call('SMEMBERS', key)
    elseif kind == 'zset' then
      elements = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    else
      elements = redis.call('LRANGE', key, 0, -1)
    end
  end
  out[i] = {kind, kind == 'none' and -1 or redis.call('PEXPIRETIME', key), elements}
end
return out
