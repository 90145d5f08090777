-- One bottle as it stands now; the worker decides whether the caller is one of the two.
-- KEYS 4 bottle. ARGV 1 id. Reply: the record.
sweep()
settle(ARGV[1])
return record(ARGV[1])
