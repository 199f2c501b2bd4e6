-- Tells what a replica has spent with a key in a month, all of it: told twice it counts
-- once, and what this server has lost is told again.
--
-- KEYS: for each key of a client, the hash of what replicas have spent with it, by
--   replica, each as `<billionths of a dollar> <answers of unknown cost>`; their sum
--   stands under `=`.
-- ARGV: the replica, for how many seconds a month is kept;
--   for each key: what the replica has spent, and what was spent before there was any
--   shared state, each as above.
-- Returns the sum of each.

local function read(text)
  local dollars, unknown = string.match(text or '', '^(%d+) (%d+)$')
  return tonumber(dollars or 0), tonumber(unknown or 0)
end

local sums = {}
for n, key in ipairs(KEYS) do
  local dollars, unknown = read(redis.call('HGET', key, '=') or ARGV[2 * n + 2])
  local own_dollars, own_unknown = read(ARGV[2 * n + 1])
  local told_dollars, told_unknown = read(redis.call('HGET', key, ARGV[1]))
  -- A word that was overtaken by a later one says nothing.
  dollars = dollars + math.max(0, own_dollars - told_dollars)
  unknown = unknown + math.max(0, own_unknown - told_unknown)
  local own = string.format('%d %d', math.max(own_dollars, told_dollars), math.max(own_unknown, told_unknown))
  sums[n] = string.format('%d %d', dollars, unknown)
  redis.call('HSET', key, '=', sums[n], ARGV[1], own)
  redis.call('EXPIRE', key, ARGV[2])
end
return sums
