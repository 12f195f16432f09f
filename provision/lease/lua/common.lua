-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- What every script begins with. KEYS[1] is ddtb:{NAME}:pool; all other keys carry the same {hash tag}, so they lie on the
-- same server. ARGV[1] is the time in milliseconds, "" for that of Redis; ARGV[2] the grace after a failover, in
-- milliseconds; ARGV[3] how many never used indices are left out then; ARGV[4] how many milliseconds a clock may move unseen
-- before it tells nothing of what happened meanwhile. What is a script's own begins at ARGV[5]. It may be run twice.

local K = string.sub(KEYS[1], 1, -5)
local now = tonumber(ARGV[1])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local GRACE, SKIP, JUMP = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local info = redis.call('INFO', 'replication')
local replid = string.match(info, 'master_replid:(%w+)')
local replicas = 0
for lag in string.gmatch(info, 'state=online,offset=%d+,lag=(%d+)') do
  if tonumber(lag) <= 2 then replicas = replicas + 1 end
end

local pool = {}
do
  local names = {'size', 'next', 'top', 'epoch', 'clock', 'grace', 'hold', 'quarantine', 'ttl', 'floor', 'lost', 'doubt', 'replid', 'endpoint', 'prefix'}
  local values = redis.call('HMGET', KEYS[1], unpack(names))
  for i, name in ipairs(names) do
    pool[name] = values[i] or nil
    if i <= 11 then pool[name] = tonumber(values[i] or '0') end
  end
end

local function int(n) return string.format('%.0f', n) end

-- reply gives an answer with what every node wants to know: the state the pool is in, and how many replicas follow.
local function reply(status, ...)
  return {status, int(pool.epoch) .. '-' .. string.sub(replid, 1, 8), replicas, ...}
end

-- lift sets the floor: until hold, indices that seem never used are given from there on. Those below, up to the last one that
-- anybody remembers to have been used and some more, may have been given away by writes that were lost.
local function lift(size)
  local from = math.min(pool.top + 1, size)
  pool.floor = math.max(pool.floor, from + math.min(SKIP, math.ceil((size - from) / 8)))
  redis.call('HSET', KEYS[1], 'floor', pool.floor)
end

-- renew begins an epoch. Until hold nothing that somebody ever had goes to somebody else, unless all nodes that may be
-- serving something have said before that they have asserted it (check.lua). lost: writes may have been lost besides.
-- Then there is a grace in which only those known are served, and of them only those whose index cannot have been given
-- away meanwhile: doubt is the time up to which it may ("all": the data is so old that nobody can be sure). What was confirmed
-- in the epoch that begins then (lost), or in a later one, is in no doubt.
local function renew(lost)
  local seen = pool.clock
  if pool.hold <= seen then pool.floor, pool.doubt = 0, '0' end
  redis.call('DEL', K .. 'asserted')
  redis.call('ZREMRANGEBYSCORE', K .. 'nodes', '-inf', '(' .. int(seen - pool.ttl - pool.quarantine))
  for _, node in ipairs(redis.call('ZRANGE', K .. 'nodes', 0, -1)) do
    redis.call('ZADD', K .. 'nodes', now, node)
  end
  pool.epoch, pool.hold, pool.clock, pool.replid = pool.epoch + 1, now + pool.ttl + pool.quarantine, now, replid
  if lost then
    -- What was in doubt before, and is not settled yet, still is.
    pool.grace, pool.lost = now + GRACE, pool.epoch
    if pool.doubt == 'all' or math.abs(now - seen) >= pool.quarantine then pool.doubt = 'all'
    else pool.doubt = int(math.max(now, tonumber(pool.doubt or '0'))) end
    if pool.floor > 0 then pool.floor = pool.floor + math.min(SKIP, math.ceil((pool.size - pool.floor) / 8)) end
    lift(pool.size)
  end
  redis.call('HSET', KEYS[1], 'epoch', pool.epoch, 'hold', pool.hold, 'clock', now, 'replid', replid,
    'grace', pool.grace, 'floor', pool.floor, 'lost', pool.lost, 'doubt', pool.doubt or '0')
end

-- settled tells whether all nodes that may be serving something have asserted it.
local function settled()
  for _, node in ipairs(redis.call('ZRANGE', K .. 'nodes', 0, -1)) do
    if redis.call('SISMEMBER', K .. 'asserted', node) == 0 then return false end
  end
  return true
end

if pool.size > 0 then
  -- A Redis that is full refuses this, before anything else has changed: it refuses some writes, but not all.
  redis.call('HSET', KEYS[1], 'clock', now)
  if pool.replid ~= replid then
    renew(true)
  elseif math.abs(now - pool.clock) > JUMP then
    -- The nodes have what is left of a grace all the same: no time has passed for them.
    pool.grace = now + math.max(0, math.min(pool.grace - pool.clock, GRACE))
    renew(false)
  end
  if pool.hold > now and pool.grace <= now and settled() then
    pool.hold, pool.floor, pool.doubt = 0, 0, '0'
    redis.call('HSET', KEYS[1], 'hold', 0, 'floor', 0, 'doubt', '0')
  end
end

-- unsure tells that writes may have been lost, and not all nodes have said yet what they serve.
local unsure = pool.hold > now and pool.floor > 0

-- Texts of the addresses of an index, as redis-cli shows them.

-- groups gives the eight groups of an IPv6 address.
local function groups(text)
  local head, tail = string.match(text, '^(.-)::(.*)$')
  if not head then head, tail = text, '' end
  local g, rest = {}, {}
  for h in string.gmatch(head, '%x+') do g[#g + 1] = tonumber(h, 16) end
  for h in string.gmatch(tail, '%x+') do rest[#rest + 1] = tonumber(h, 16) end
  while #g + #rest < 8 do g[#g + 1] = 0 end
  for _, v in ipairs(rest) do g[#g + 1] = v end
  return g
end

-- address is base + index * 2^bits in the form of RFC 5952.
local function address(base, index, bits)
  local g, v, at = groups(base), index * 2 ^ (bits % 16), 8 - math.floor(bits / 16)
  while v > 0 and at > 0 do
    v = v + g[at]
    g[at] = v % 65536
    v, at = math.floor(v / 65536), at - 1
  end
  local best, longest, from, run = 0, 1, 0, 0
  for i = 1, 8 do
    if g[i] ~= 0 then run = 0 else
      if run == 0 then from = i end
      run = run + 1
      if run > longest then best, longest = from, run end
    end
  end
  local out, i = '', 1
  while i <= 8 do
    if i == best then out, i = out .. '::', i + longest else
      if out ~= '' and string.sub(out, -1) ~= ':' then out = out .. ':' end
      out, i = out .. string.format('%x', g[i]), i + 1
    end
  end
  return out
end

-- delegated is the prefix of an index, "" if the pool delegates none.
local function delegated(index)
  local base, length = string.match(pool.prefix or '', '^(.*)/(%d+)$')
  if not base then return '' end
  return address(base, index, 128 - tonumber(length)) .. '/' .. length
end

local FIELDS = {'user', 'session', 'node', 'state', 'since', 'expires', 'reserved', 'forget', 'foreign', 'epoch', 'data', 'busy'}

-- entry is what is known of an index: state is nil (never used), "active", "idle" or "reserved".
local function entry(index)
  local e = {index = tonumber(index)}
  local values = redis.call('HMGET', K .. 'lease:' .. index, unpack(FIELDS))
  for i, name in ipairs(FIELDS) do e[name] = values[i] or nil end
  e.expires, e.epoch, e.busy = tonumber(e.expires or '0'), tonumber(e.epoch or '0'), tonumber(e.busy or '0')
  return e
end

local function held(e) return e.state == 'active' end

-- free is when the quarantine of an entry ends: expires is its end, or that of the lease of a session.
local function free(e)
  if held(e) then return math.max(e.expires, e.busy) + pool.quarantine end
  return e.expires
end

local function rested(e) return free(e) <= now end

-- doubtful tells whether the index may have been given to somebody else by a write that was lost. One that was reserved
-- rests before anybody else gets it, from the reservation's end on.
local function doubtful(e)
  if pool.hold <= now or e.epoch >= pool.lost then return false end
  return pool.doubt == 'all' or not e.reserved and free(e) <= tonumber(pool.doubt or '0')
end

-- order is the sorted set that an entry stands in, users the hash that finds it by its user.
local function order(e)
  if held(e) then return K .. (e.reserved and 'static' or 'exp') end
  if e.state == 'idle' then return K .. 'idle' end
end

local function users(e) return K .. (e.reserved and 'reserved' or 'users') end

-- save writes an entry in the place of another, and keeps what finds it in step.
local function save(before, e)
  local key, was, is = K .. 'lease:' .. e.index, order(before), order(e)
  if was and was ~= is then redis.call('ZREM', was, e.index) end
  if is then redis.call('ZADD', is, e.expires, e.index) end
  if before.user and (before.user ~= e.user or before.reserved ~= e.reserved) then
    if tonumber(redis.call('HGET', users(before), before.user) or '0') == e.index then
      redis.call('HDEL', users(before), before.user)
    end
  end
  if e.user then redis.call('HSET', users(e), e.user, e.index) end
  local out = {}
  for _, name in ipairs(FIELDS) do
    if e[name] and (name ~= 'busy' or e.busy > now) then out[#out + 1] = name; out[#out + 1] = e[name] end
  end
  out[#out + 1] = 'endpoint'; out[#out + 1] = address(pool.endpoint, e.index, 0)
  out[#out + 1] = 'prefix'; out[#out + 1] = e.foreign or delegated(e.index)
  redis.call('DEL', key)
  redis.call('HSET', key, unpack(out))
  if e.index > pool.top then
    pool.top = e.index
    redis.call('HSET', KEYS[1], 'top', e.index)
  end
end

-- dropped collects the foreign prefixes that sessions gave up: user, session, prefix. The caller gives back the claims. Not that of a session
-- which is owed something: its node may be cut off and serve it, and releases it at last. kept is the session and prefix that go
-- on together, with another lease.
local dropped, kept = {}, {}
local function give(user, session, foreign)
  for _, v in ipairs({user, session, foreign}) do dropped[#dropped + 1] = v end
end

local function drop(e)
  if held(e) and e.foreign and not e.owed and not (e.session == kept.session and e.foreign == kept.foreign) then
    give(e.user, e.session, e.foreign)
  end
end

-- owe keeps what a session has left whose lease goes to one of another node: its own may be down just now, and owes its
-- end. It may as well be cut off, and serve the index until half a quarantine past the end it knows of: until that the index is
-- busy, and rests from then on. taker is the user of that one. forgive ends what is owed; foreign is the prefix that the session goes
-- on with, nil: none.
local OWED = {'index', 'user', 'taker', 'node', 'since', 'ended', 'foreign', 'data'}
local function owe(e, taker, node)
  if not held(e) or e.node == node then return end
  e.busy, e.owed = math.max(e.busy, e.expires), true
  local key = K .. 'owed:' .. e.session
  redis.call('ZADD', K .. 'owed', now, e.session)
  redis.call('HSET', key, 'index', e.index, 'user', e.user, 'taker', taker, 'node', e.node, 'since', e.since,
    'ended', int(math.min(now, e.expires)), 'data', e.data or '')
  if e.foreign then redis.call('HSET', key, 'foreign', e.foreign) end
end

local function forgive(session, foreign)
  local had = redis.call('HMGET', K .. 'owed:' .. session, 'user', 'foreign')
  if had[2] and had[2] ~= foreign then give(had[1], session, had[2]) end
  if redis.call('ZREM', K .. 'owed', session) == 1 then redis.call('DEL', K .. 'owed:' .. session) end
end

-- finish is an entry after its session is gone at a time. It tells when that had begun.
local function finish(e, at)
  drop(e)
  local after = {index = e.index, user = e.user, reserved = e.reserved, epoch = pool.epoch, expires = math.max(at, e.busy) + pool.quarantine, since = e.since}
  if e.forget and not e.reserved then after.user = nil end
  after.state = e.reserved and 'reserved' or 'idle'
  save(e, after)
  return after
end

-- disown is an entry without its owner; a session that holds it is gone.
local function disown(e)
  drop(e)
  local after = {index = e.index, state = 'idle', epoch = e.epoch, expires = e.expires}
  if held(e) then after.expires = math.max(now, e.busy) + pool.quarantine end
  save(e, after)
end

-- owned finds the indices of a user: without and with a reservation, nil: none.
local function owned(user)
  return tonumber(redis.call('HGET', K .. 'users', user) or nil), tonumber(redis.call('HGET', K .. 'reserved', user) or nil)
end

-- hold makes a session the holder of an entry. Its node, should it have been away for so long that it was forgotten, is to be waited
-- for from now on, not from its next check on: it may be cut off again before.
local function hold(e, want)
  redis.call('ZADD', K .. 'nodes', now, want.node)
  local after = {
    index = e.index, state = 'active', user = want.user, session = want.session, node = want.node, since = want.since,
    expires = want.expires, reserved = e.reserved, forget = want.forget, foreign = want.foreign, data = want.data, epoch = pool.epoch,
  }
  if e.user ~= want.user then after.reserved = nil end
  if e.session ~= want.session then owe(e, want.user, want.node) end
  after.busy = e.busy
  forgive(want.session, want.foreign)
  drop(e)
  save(e, after)
end

-- holder is the lease that a session other than those two holds of a user, before its end; nil if there is none.
local function holder(user, one, other)
  local current, reserved = owned(user)
  for _, i in ipairs({current or 0, reserved or 0}) do
    local e = entry(i)
    if held(e) and e.expires > now and e.session ~= one and e.session ~= other then return e end
  end
end

-- lost tells of a session that does not hold its lease: whether it gave way to another of its user.
local function lost(session, user)
  local owed = redis.call('HMGET', K .. 'owed:' .. session, 'user', 'taker')
  local preempted = owed[1] and owed[1] == owed[2] or not owed[1] and user ~= '' and holder(user, session)
  return preempted and 'PREEMPTED' or 'LOST'
end

-- listed is an entry as list.lua tells of it.
local function listed(e)
  local out = {e.index}
  for i, name in ipairs(FIELDS) do
    local v = e[name] or ''
    out[i + 1] = type(v) == 'number' and int(v) or v
  end
  return out
end
