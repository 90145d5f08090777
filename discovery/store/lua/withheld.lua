-- Head of the scripts of the sea that bring people together: the set of those whom moderation keeps from it.
-- Behind the script's own KEYS stands that set (hash: user -> 1, and '' -> the stamp of what it holds), behind its own
-- ARGV the stamp of what the worker has folded. They are taken away here. Another stamp: nothing is done, and the worker
-- writes the set first (sea_withheld.lua).
local WITHHELD, stamp = table.remove(KEYS), table.remove(ARGV)
local stands = redis.call('HGET', WITHHELD, '') or (redis.call('EXISTS', WITHHELD) == 0 and '')
if stands ~= stamp then return 'withheld' end
local function is_withheld(user) return user ~= '' and redis.call('HEXISTS', WITHHELD, user) == 1 end  -- '': erased
