-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- extend: moves the end of leases that are held by the given sessions.
-- ARGV: ttl, then of each lease: index, session, its user or "", "1" if new data follows, data
-- OK, then of each: "1", or "foreign-prefix user" if a claim goes with it; "LOST", "PREEMPTED" (to another session of the user) | NOPOOL
if pool.size == 0 then return reply('NOPOOL') end
local ttl, out = tonumber(ARGV[5]), {}
local expires = now + ttl
for i = 6, #ARGV, 5 do
  local index, session = ARGV[i], ARGV[i + 1]
  local key = K .. 'lease:' .. index
  local v = redis.call('HMGET', key, 'state', 'session', 'reserved', 'user', 'foreign', 'epoch', 'expires', 'busy')
  local e = {state = v[1], reserved = v[3] or nil, epoch = tonumber(v[6] or '0'), expires = tonumber(v[7] or '0'), busy = tonumber(v[8] or '0')}
  if not held(e) or v[2] ~= session or doubtful(e) then
    if ARGV[i + 3] == '1' and redis.call('EXISTS', K .. 'owed:' .. session) == 1 then
      redis.call('HSET', K .. 'owed:' .. session, 'data', ARGV[i + 4])
    end
    out[#out + 1] = lost(session, ARGV[i + 2])
  else
    redis.call('HSET', key, 'expires', expires, 'epoch', pool.epoch)
    if ARGV[i + 3] == '1' then redis.call('HSET', key, 'data', ARGV[i + 4]) end
    redis.call('ZADD', order(e), expires, index)
    out[#out + 1] = v[5] and (v[5] .. ' ' .. v[4]) or '1'
  end
end
if ttl > pool.ttl then redis.call('HSET', KEYS[1], 'ttl', ttl) end
return reply('OK', unpack(out))
