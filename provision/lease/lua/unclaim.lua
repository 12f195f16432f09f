-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- unclaim: gives claims to foreign prefixes back.
-- ARGV: of each: pool, user, session, prefix, the name of the claim, or "" for whichever: what takes one claim back may come late, when
-- the session has made another
-- OK | NOPOOL
if pool.size == 0 then return reply('NOPOOL') end
for i = 5, #ARGV, 5 do
  local key = K .. 'claim:' .. ARGV[i + 3]
  local v = redis.call('HMGET', key, 'pool', 'user', 'session', 'range', 'claim')
  if v[1] == ARGV[i] and v[2] == ARGV[i + 1] and v[3] == ARGV[i + 2] and (ARGV[i + 4] == '' or v[5] == ARGV[i + 4]) then
    redis.call('ZREM', K .. 'ranges', v[4] .. ' ' .. ARGV[i + 3])
    redis.call('DEL', key)
  end
end
return reply('OK')
