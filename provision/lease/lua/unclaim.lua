-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- unclaim: gives claims to foreign prefixes back.
-- ARGV: of each: pool, user, session, prefix
-- OK | NOPOOL
if pool.size == 0 then return reply('NOPOOL') end
for i = 5, #ARGV, 4 do
  local key = K .. 'claim:' .. ARGV[i + 3]
  local v = redis.call('HMGET', key, 'pool', 'user', 'session', 'range')
  if v[1] == ARGV[i] and v[2] == ARGV[i + 1] and v[3] == ARGV[i + 2] then
    redis.call('ZREM', K .. 'ranges', v[4] .. ' ' .. ARGV[i + 3])
    redis.call('DEL', key)
  end
end
return reply('OK')
