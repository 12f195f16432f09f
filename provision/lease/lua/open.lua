-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- open: makes a pool, or compares it with the one there is.
-- ARGV: size, first, endpoint base, prefix base/length or "", quarantine, longest ttl, drop ("1")
-- OK | OTHER size endpoint prefix
local size, first, endpoint, prefix = tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8]
local same = pool.endpoint == endpoint and (pool.prefix or '') == prefix and pool.size <= size
if pool.size > 0 and not same and ARGV[11] ~= '1' then
  return reply('OTHER', int(pool.size), pool.endpoint, pool.prefix or '')
end
if pool.size > 0 and not same then
  for i = 1, pool.top do redis.call('UNLINK', K .. 'lease:' .. i) end
  for _, session in ipairs(redis.call('ZRANGE', K .. 'owed', 0, -1)) do redis.call('UNLINK', K .. 'owed:' .. session) end
  for _, name in ipairs({'owed', 'pool', 'exp', 'static', 'idle', 'users', 'reserved', 'asserted'}) do redis.call('UNLINK', K .. name) end
  pool.size = 0
end
if pool.size == 0 then
  -- Either it is new, or Redis lost all: who serves something has to say so before anybody gets anything.
  pool.epoch, pool.top, pool.floor = math.floor(now / 1000), 0, 0
  redis.call('HSET', KEYS[1], 'endpoint', endpoint, 'prefix', prefix, 'first', first, 'next', 1, 'top', 0, 'epoch', pool.epoch,
    'lost', pool.epoch, 'replid', replid, 'clock', now, 'grace', now + GRACE, 'hold', now + ARGV[10] + ARGV[9], 'doubt', 0, 'ttl', ARGV[10])
  lift(size)
end
redis.call('HSET', KEYS[1], 'size', size, 'quarantine', ARGV[9])
return reply('OK')
