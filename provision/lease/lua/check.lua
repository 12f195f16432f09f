-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- check: a node says that it is there, and in which epoch it has asserted what it serves.
-- ARGV: node, epoch-replid
-- OK active static idle reserved milliseconds-of-grace | NOPOOL
if pool.size == 0 then return reply('NOPOOL') end
redis.call('ZADD', K .. 'nodes', now, ARGV[5])
if ARGV[6] == reply('')[2] then redis.call('SADD', K .. 'asserted', ARGV[5]) end
redis.call('ZREMRANGEBYSCORE', K .. 'nodes', '-inf', '(' .. int(now - pool.ttl - pool.quarantine))
if pool.hold > now and pool.grace <= now then
  local all = true
  for _, node in ipairs(redis.call('ZRANGE', K .. 'nodes', 0, -1)) do
    all = all and redis.call('SISMEMBER', K .. 'asserted', node) == 1
  end
  if all then redis.call('HSET', KEYS[1], 'hold', 0, 'doubt', '0') end
end
return reply('OK', redis.call('ZCARD', K .. 'exp'), redis.call('ZCARD', K .. 'static'), redis.call('ZCARD', K .. 'idle'),
  redis.call('HLEN', K .. 'reserved'), math.max(0, pool.grace - now))
