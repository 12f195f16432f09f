-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- reclaim: moves the end of claims to foreign prefixes.
-- ARGV: ttl, then of each: pool, user, session, prefix
-- OK, then of each "1", or "" if there is no such claim any more | NOPOOL
if pool.size == 0 then return reply('NOPOOL') end
local out = {}
for i = 6, #ARGV, 4 do
  local key = K .. 'claim:' .. ARGV[i + 3] .. ':' .. ARGV[i + 2]
  local v = redis.call('HMGET', key, 'pool', 'user')
  local his = v[1] == ARGV[i] and v[2] == ARGV[i + 1]
  if his then redis.call('HSET', key, 'expires', now + tonumber(ARGV[5]), 'epoch', pool.epoch) end
  out[#out + 1] = his and '1' or ''
end
return reply('OK', unpack(out))
