-- The app's backend adds or removes friendships: both halves of each pair, and one feed entry for all of them.
-- KEYS: feed, then for each pair: halves of a, halves of b, blocks of a, blocks of b.
-- ARGV: for each pair: a, b, op ('add' or 'remove'), guardian ('0' or '1'), feed record of a's half, feed record of b's half.
-- A person's own unfriend (declined), hide (hidden) or block is never undone, a precision never raised.
-- Returns {entry id, status of each pair...}: 'applied' or 'declined_by_person'.
local records, out = {}, {''}

local function precision(halves, other)
  local half = redis.call('HGET', halves, other)
  return half and string.match(half, '^[^|]+')
end

local function blocked(blocks, other)
  for _, person in ipairs(redis.call('HVALS', blocks)) do
    if person == other then
      return true
    end
  end
  return false
end

local function add(halves, other, old, guardian, record)
  if not old then
    redis.call('HSET', halves, other, 'area|0|' .. guardian)
    records[#records + 1] = record
  elseif guardian == '1' then
    records[#records + 1] = string.gsub(record, '"area"', '"' .. old .. '"')
  end
end

local function remove(halves, other, old, record)
  if old and old ~= 'declined' then
    redis.call('HDEL', halves, other)
    records[#records + 1] = record
  end
end

for i = 0, (#KEYS - 1) / 4 - 1 do
  local fa, fb, xa, xb = KEYS[4 * i + 2], KEYS[4 * i + 3], KEYS[4 * i + 4], KEYS[4 * i + 5]
  local a, b, op, guardian = ARGV[6 * i + 1], ARGV[6 * i + 2], ARGV[6 * i + 3], ARGV[6 * i + 4]
  local old_a, old_b = precision(fa, b), precision(fb, a)
  local status = 'applied'
  if op == 'remove' then
    remove(fa, b, old_a, ARGV[6 * i + 5])
    remove(fb, a, old_b, ARGV[6 * i + 6])
  elseif old_a == 'declined' or old_b == 'declined' or old_a == 'hidden' or old_b == 'hidden'
    or blocked(xa, b) or blocked(xb, a) then
    status = 'declined_by_person'
  else
    add(fa, b, old_a, guardian, ARGV[6 * i + 5])
    add(fb, a, old_b, guardian, ARGV[6 * i + 6])
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
