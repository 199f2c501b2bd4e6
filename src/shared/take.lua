-- Takes from rates and from what may be in flight: all of it or nothing.
--
-- Each rate is a generic cell rate: its key holds when it is full again, in microseconds
-- of this server's clock, so that the replicas' own clocks do not matter.
--
-- KEYS: a key for each rate; then, where prompts in flight are bounded, their hash;
--   then, where money is, the hash of what was spent with a key.
-- ARGV: how many rates, 1 or 0 for a bound in flight, 1 or 0 for money;
--   for each rate: the microseconds in which one more is free, the burst, how many to
--   take, how many were used beyond what was taken before (or, negative, were not), and
--   in how many microseconds the replica alone would have it full again;
--   for what is in flight: the bound, the replica, how many it has with this one, the
--   number of this word, and for how many microseconds it is believed;
-- Returns who refused (0 nobody; the rate's number; -1 what is in flight), for how many
--   microseconds, how much is left of each rate, and what was spent.

-- Since then rather than since 1970: a double has room for fractions.
local EPOCH = 1700000000
local time = redis.call('TIME')
local now = (tonumber(time[1]) - EPOCH) * 1000000 + tonumber(time[2])
local rates, has_bound, has_money = tonumber(ARGV[1]), ARGV[2] == '1', ARGV[3] == '1'
local refused, wait, at = 0, 0, 4

local stored, full, after, left = {}, {}, {}, {}
for n = 1, rates do
  local period, burst, take = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local owed, alone = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  at = at + 5
  stored[n] = redis.call('GET', KEYS[n])
  local before = tonumber(stored[n] or now) + owed * period
  -- What this replica knows of is never forgotten, whatever became of this server's data.
  full[n] = math.max(now + alone, math.min(before, now + 2 * burst * period))
  after[n] = full[n] + take * period
  local over = after[n] - now - burst * period
  -- A rounding error is no reason.
  if take > 0 and over > 0.5 and over > wait then
    refused, wait = n, over
  end
  left[n] = math.max(0, math.floor(burst - (after[n] - now) / period))
end

if has_bound then
  local flights = KEYS[rates + 1]
  local bound, replica, mine = tonumber(ARGV[at]), ARGV[at + 1], tonumber(ARGV[at + 2])
  local number, lease = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  at = at + 5
  local others, is_overtaken = 0, false
  local all = redis.call('HGETALL', flights)
  for i = 1, #all, 2 do
    local count, until_then, word = string.match(all[i + 1], '^(%d+) (%d+) (%d+)$')
    if tonumber(until_then) <= now then
      redis.call('HDEL', flights, all[i])
    elseif all[i] ~= replica then
      others = others + tonumber(count)
    else
      -- Numbers begin anew after 2^32.
      local ahead = tonumber(word) - number
      is_overtaken = ahead > 0 and ahead < 2147483648
    end
  end
  if others + mine > bound then
    refused, wait = -1, 0
  elseif refused == 0 and not is_overtaken then
    redis.call('HSET', flights, replica, string.format('%d %d %d', mine, now + lease, number))
    redis.call('PEXPIRE', flights, math.ceil(lease / 1000))
  end
end

for n = 1, rates do
  local value = refused == 0 and after[n] or full[n]
  local text = string.format('%.3f', value)
  if value <= now then
    redis.call('DEL', KEYS[n])
  elseif text ~= stored[n] then
    redis.call('SET', KEYS[n], text, 'PX', math.ceil((value - now) / 1000) + 1)
  end
end

local spent = ''
if has_money then
  spent = redis.call('HGET', KEYS[#KEYS], '=') or ''
end
return { refused, math.ceil(wait), left, spent }
