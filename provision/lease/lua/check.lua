-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- check: a node says that it is there, and in which epoch it has asserted what it serves.
-- ARGV: node, epoch-replid, the last index it knows to have been used, the nodes it knows of
-- OK active static idle reserved milliseconds-of-grace last-index nodes... | NOPOOL
if pool.size == 0 then return reply('NOPOOL') end
redis.call('ZADD', K .. 'nodes', now, ARGV[5])
if ARGV[6] == reply('')[2] then redis.call('SADD', K .. 'asserted', ARGV[5]) end
if unsure and pool.grace > now then
  -- What nodes remember may be what Redis has lost.
  local last = tonumber(ARGV[7])
  if last > pool.top and last < pool.size then
    pool.top = last
    redis.call('HSET', KEYS[1], 'top', last)
  end
  lift(pool.size)
  for i = 8, #ARGV do redis.call('ZADD', K .. 'nodes', 'NX', now, ARGV[i]) end
end
redis.call('ZREMRANGEBYSCORE', K .. 'nodes', '-inf', '(' .. int(now - pool.ttl - pool.quarantine))
return reply('OK', redis.call('ZCARD', K .. 'exp'), redis.call('ZCARD', K .. 'static'), redis.call('ZCARD', K .. 'idle'),
  redis.call('HLEN', K .. 'reserved'), math.max(0, pool.grace - now), pool.top, unpack(redis.call('ZRANGE', K .. 'nodes', 0, -1)))
