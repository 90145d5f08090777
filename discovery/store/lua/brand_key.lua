-- Keep one more API key of a brand, unless it has as many of that kind as may live at once.
-- KEYS: the brand's name, its keys
-- ARGV: key id, row (JSON), kind, most live keys of a kind
-- Returns 1; 0 when there are too many; -1 when there is no such brand. Done twice it is done once.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return -1
end
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then
  local live = 0
  for _, row in ipairs(redis.call('HVALS', KEYS[2])) do
    if cjson.decode(row).kind == ARGV[3] then
      live = live + 1
    end
  end
  if live >= tonumber(ARGV[4]) then
    return 0
  end
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
