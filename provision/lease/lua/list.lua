-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- list: tells of the leases from an index on.
-- ARGV: first index, how many to look at
-- OK next-index-or-0, a list with index and FIELDS of each lease, now | NOPOOL
if pool.size == 0 then return reply('NOPOOL') end
local from, out = tonumber(ARGV[5]), {}
local to = math.min(from + tonumber(ARGV[6]) - 1, pool.top)
for i = from, to do
  local values = redis.call('HMGET', K .. 'lease:' .. i, unpack(FIELDS))
  local gone = not values[1] and tonumber(values[6] or '0') <= now
  if values[4] and not gone then
    out[#out + 1] = i
    for f = 1, #FIELDS do out[#out + 1] = values[f] or '' end
  end
end
return reply('OK', to < pool.top and to + 1 or 0, out, now)
