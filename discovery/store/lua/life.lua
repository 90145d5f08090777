-- Head of every script by which somebody acts: an act of a life that has ended changes nothing.
-- Behind the script's own KEYS stands the hash of tombstones (name -> 'life|ms'), behind its own ARGV for each person who
-- acts: name, the life that the worker judged by; then how many they are. They are taken away here.
local TOMBSTONES = table.remove(KEYS)
for _ = 1, tonumber(table.remove(ARGV)) do
  local life, name = table.remove(ARGV), table.remove(ARGV)
  local stands = redis.call('HGET', TOMBSTONES, name)
  if stands and string.match(stands, '^%d+') ~= life then return 'erased' end
end
