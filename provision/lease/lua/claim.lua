-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- claim: a user of a pool claims a foreign prefix. The claims of all pools stand together, so that no two overlap.
-- ARGV: pool, user, session, ttl, prefix, range of its upper 64 bits in hex "first-last", "1" if he has it already, node, since
-- when the session has its lease, "" if it is about to get it, a name of this claim alone
-- OK, then of each claim that gave way: pool user session prefix range milliseconds-left | TAKEN | GRACE | NOPOOL
local MOST = 64 -- claims that one may push aside
if pool.size == 0 then return reply('NOPOOL') end
local of, user, session, prefix, range, his = ARGV[5], ARGV[6], ARGV[7], ARGV[9], ARGV[10], ARGV[11] == '1'
local since = tonumber(ARGV[13])
local first, last = string.match(range, '^(%x+)-(%x+)$')

local function claimed(p)
  local v = redis.call('HMGET', K .. 'claim:' .. p, 'pool', 'user', 'session', 'expires', 'range', 'epoch', 'since')
  return {pool = v[1], user = v[2], session = v[3], expires = tonumber(v[4] or '0'), range = v[5], epoch = tonumber(v[6] or '0'),
    since = tonumber(v[7] or '0'), prefix = p}
end

local found, expires = {}, now + tonumber(ARGV[8])
for _, member in ipairs(redis.call('ZREVRANGEBYLEX', K .. 'ranges', '[' .. last .. '~', '-', 'LIMIT', 0, MOST + 1)) do
  local ends, p = string.match(member, '^%x+-(%x+) (.*)$')
  if ends < first then break end
  local c = claimed(p)
  local own = c.pool == of and c.user == user
  -- What an earlier session of his says comes late, from another server or a thread behind: the later one's claim stays.
  if own and since and c.session ~= session and c.since > since then return reply('OK') end
  if not own and (c.expires > now or pool.hold > now) then return reply('TAKEN') end
  c.same = own and p == prefix
  if c.same and since and c.session == session then expires = math.max(expires, c.expires) end
  -- No claim rests: one that was there before writes were lost may be another's.
  his = his or c.same and (not unsure or c.epoch >= pool.lost)
  found[#found + 1] = c
end
if #found > MOST then return reply('TAKEN') end
if unsure and not his then return reply('GRACE') end

local out = {}
for _, c in ipairs(found) do
  redis.call('ZREM', K .. 'ranges', c.range .. ' ' .. c.prefix)
  redis.call('DEL', K .. 'claim:' .. c.prefix)
  if not c.same then
    for _, v in ipairs({c.pool, c.user, c.session, c.prefix, c.range, int(c.expires - now)}) do out[#out + 1] = v end
  end
end
redis.call('ZADD', K .. 'nodes', now, ARGV[12]) -- see hold
redis.call('ZADD', K .. 'ranges', 0, range .. ' ' .. prefix)
redis.call('HSET', K .. 'claim:' .. prefix, 'pool', of, 'user', user, 'session', session, 'expires', int(expires), 'range', range,
  'epoch', pool.epoch, 'since', int(since or now), 'claim', ARGV[14])
if tonumber(ARGV[8]) > pool.ttl then redis.call('HSET', KEYS[1], 'ttl', ARGV[8]) end
return reply('OK', unpack(out))
