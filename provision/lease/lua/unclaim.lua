-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- unclaim: gives the claims of sessions to foreign prefixes back.
-- ARGV: of each: pool, user, session, prefix, the name of the claim, or "" for whichever: what takes one claim back may come late, when
-- the session has made another
-- OK | NOPOOL
if pool.size == 0 then return reply('NOPOOL') end
for i = 5, #ARGV, 5 do
  local of, user, session, prefix, name = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local key = K .. 'claim:' .. prefix .. ':' .. session
  local v = redis.call('HMGET', key, 'range', 'claim', 'pool', 'user')
  if v[3] == of and v[4] == user and (name == '' or v[2] == name) then
    redis.call('ZREM', K .. 'ranges', v[1] .. ' ' .. prefix .. ' ' .. session)
    redis.call('DEL', key)
  end
end
return reply('OK')
