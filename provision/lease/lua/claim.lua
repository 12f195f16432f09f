-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- claim: a session claims a foreign prefix. The claims of all pools stand together, so that no two of different users, or pools, overlap.
-- Each session has its own, and they last as long as it does: those of one user may overlap, and that of a session that comes late, or
-- never has a lease, is in the way of none of his others.
-- ARGV: pool, user, session, ttl, prefix, range of its upper 64 bits in hex "first-last", "1" if the session has it already, node, a
-- name of this claim alone
-- OK, then of each claim that gave way: pool user session prefix | TAKEN | GRACE | NOPOOL
local MOST = 64 -- claims looked at
if pool.size == 0 then return reply('NOPOOL') end
local of, user, session, prefix, range, his = ARGV[5], ARGV[6], ARGV[7], ARGV[9], ARGV[10], ARGV[11] == '1'
local first, last = string.match(range, '^(%x+)-(%x+)$')

local function claimed(member)
  local p, s = string.match(member, ' (%S+) (.*)$')
  local key = K .. 'claim:' .. p .. ':' .. s
  local v = redis.call('HMGET', key, 'pool', 'user', 'expires', 'epoch')
  return {key = key, member = member, prefix = p, session = s, pool = v[1], user = v[2], expires = tonumber(v[3] or '0'), epoch = tonumber(v[4] or '0')}
end

local expires, over, below = now + tonumber(ARGV[8]), {}, nil
-- From the last that begins in the range on, downwards. Prefixes lie one in the other or apart, so of those that begin before the range
-- the ones that reach into it have only claims of their own user between.
for i, member in ipairs(redis.call('ZREVRANGEBYLEX', K .. 'ranges', '[' .. last .. '~', '-', 'LIMIT', 0, MOST + 1)) do
  if i > MOST then return reply('TAKEN') end
  local c = claimed(member)
  local own = c.pool == of and c.user == user
  if string.match(member, '^%x+-(%x+)') < first then
    local who = tostring(c.pool) .. ' ' .. tostring(c.user)
    if below and below ~= who then break end
    below = who
  elseif not own and (c.expires > now or pool.hold > now) then return reply('TAKEN')
  else
    local same = own and c.prefix == prefix
    if same and c.session == session then
      if his then expires = math.max(expires, c.expires) end
    elseif c.expires <= now and pool.hold <= now then over[#over + 1] = c end
    -- No claim rests: one that was there before writes were lost may be another's.
    his = his or same and (not unsure or c.epoch >= pool.lost)
  end
end
if unsure and not his then return reply('GRACE') end

local out = {}
for _, c in ipairs(over) do
  redis.call('ZREM', K .. 'ranges', c.member)
  redis.call('DEL', c.key)
  if c.pool and (c.pool ~= of or c.user ~= user) then
    for _, v in ipairs({c.pool, c.user, c.session, c.prefix}) do out[#out + 1] = v end
  end
end
redis.call('ZADD', K .. 'nodes', now, ARGV[12]) -- see hold
redis.call('ZADD', K .. 'ranges', 0, range .. ' ' .. prefix .. ' ' .. session)
redis.call('HSET', K .. 'claim:' .. prefix .. ':' .. session, 'pool', of, 'user', user, 'expires', int(expires), 'range', range,
  'epoch', pool.epoch, 'claim', ARGV[13])
if tonumber(ARGV[8]) > pool.ttl then redis.call('HSET', KEYS[1], 'ttl', ARGV[8]) end
return reply('OK', unpack(out))
