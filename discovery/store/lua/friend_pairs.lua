-- The app's backend adds or removes friendships: both halves of each pair, and one feed entry for all of them.
-- KEYS: feed, then for each pair: halves of a, halves of b, blocks of a, blocks of b.
-- ARGV: for each pair: a, b, op ('add' or 'remove'), guardian ('0' or '1').
-- A person's own unfriend (declined), hide (hidden) or block is never undone, a precision never raised.
-- Returns {entry id, status of each pair...}: 'applied' or 'declined_by_person'.
local records, out = {}, {''}

-- Precision, end in ms and guardian of a stored half.
local function parts(half)
  return string.match(half or '', '^([^|]+)|(%d+)|(%d)')
end

-- A half as the feed carries it: owner, other, precision (null removes it), end in ms (0: none), guardian.
local function tell(owner, other, precision, ends, guardian)
  records[#records + 1] = cjson.encode({owner, other, precision, tonumber(ends), guardian == '1'})
end

local function blocked(blocks, other)
  for _, person in ipairs(redis.call('HVALS', blocks)) do
    if person == other then
      return true
    end
  end
  return false
end

local function add(halves, owner, other, guardian)
  local old, ends, vouched = parts(redis.call('HGET', halves, other))
  if old and (guardian == '0' or vouched == '1') then
    return
  end
  redis.call('HSET', halves, other, (old or 'area') .. '|' .. (ends or '0') .. '|' .. guardian)
  tell(owner, other, old or 'area', ends or '0', guardian)
end

local function remove(halves, owner, other)
  local old = parts(redis.call('HGET', halves, other))
  if old and old ~= 'declined' then
    redis.call('HDEL', halves, other)
    tell(owner, other, cjson.null, '0', '0')
  end
end

for i = 0, (#KEYS - 1) / 4 - 1 do
  local fa, fb, xa, xb = KEYS[4 * i + 2], KEYS[4 * i + 3], KEYS[4 * i + 4], KEYS[4 * i + 5]
  local a, b, op, guardian = ARGV[4 * i + 1], ARGV[4 * i + 2], ARGV[4 * i + 3], ARGV[4 * i + 4]
  local old_a, old_b = parts(redis.call('HGET', fa, b)), parts(redis.call('HGET', fb, a))
  local status = 'applied'
  if op == 'remove' then
    remove(fa, a, b)
    remove(fb, b, a)
  elseif old_a == 'declined' or old_b == 'declined' or old_a == 'hidden' or old_b == 'hidden'
    or blocked(xa, b) or blocked(xb, a) then
    status = 'declined_by_person'
  else
    add(fa, a, b, guardian)
    add(fb, b, a, guardian)
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
