-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- acquire: gives a user his index and makes a session its holder.
-- ARGV: user, session, node, ttl, index or 0, foreign prefix, forget ("1"), data, "1" to see only whether it would be given,
-- "1" to yield to other sessions of the user, but for the one that follows
-- OK index since expires dropped... | HELD lease now | FULL | TAKEN | GRACE | NOPOOL
if pool.size == 0 then return reply('NOPOOL') end
local MOST = 64 -- leases looked at that ended and may still be busy
local user, session, ttl, wanted = ARGV[5], ARGV[6], tonumber(ARGV[8]), tonumber(ARGV[9])
local want = {user = user, session = session, node = ARGV[7], since = int(now), expires = now + ttl, data = ARGV[12]}
if ARGV[10] ~= '' then want.foreign = ARGV[10] end
if ARGV[11] == '1' then want.forget = '1' end

local other = ARGV[14] == '1' and holder(user, session, ARGV[15])
if other then return reply('HELD', listed(other), now) end

local current, reserved = owned(user)
local cur, res = current and entry(current), reserved and entry(reserved)

-- unused is the lowest index never used. All below next were; while it is not sure which were, all below floor may have been.
local function unused()
  local from = unsure and 'floor' or 'next'
  local i = pool[from]
  while i < pool.size and entry(i).state do i = i + 1 end
  if i > pool[from] then redis.call('HSET', KEYS[1], from, i) end
  if i < pool.size then return i end
end

local function choose()
  local grace = pool.grace > now
  if wanted ~= 0 then
    local e = entry(wanted)
    local mine = e.state and e.user == user
    if mine and not doubtful(e) then return wanted end
    if mine or grace then return nil, 'GRACE' end
    if e.state and (e.reserved or not rested(e)) then return nil, 'TAKEN' end
    if unsure or e.state and pool.hold > now then return nil, 'GRACE' end
    return wanted
  end
  if res and not doubtful(res) then return reserved end
  if res then return nil, 'GRACE' end
  if cur and not doubtful(cur) then return current end
  if grace then return nil, 'GRACE' end
  local i = unused()
  if i then return i end
  if pool.hold > now then return nil, 'GRACE' end
  -- A session that let its lease end and never came back goes last: its broker may still owe a record.
  local first = redis.call('ZRANGEBYSCORE', K .. 'idle', '-inf', now, 'LIMIT', 0, 1)[1]
  if first then return tonumber(first) end
  for _, i in ipairs(redis.call('ZRANGEBYSCORE', K .. 'exp', '-inf', now - pool.quarantine, 'LIMIT', 0, MOST)) do
    if rested(entry(i)) then return tonumber(i) end
  end
  return nil, 'FULL'
end

local index, refused = choose()
if not index then return reply(refused) end
if ARGV[13] == '1' then return reply('OK', index) end
kept = want
-- He has one index of the pool at a time; only a reservation stays his besides.
if cur and current ~= index then owe(cur, user, want.node); disown(cur) end
if res and reserved ~= index and held(res) then owe(res, user, want.node); finish(res, now) end
local e = entry(index)
if held(e) and e.user == user and e.session == session then want.since = e.since end
hold(e, want)
if ttl > pool.ttl then redis.call('HSET', KEYS[1], 'ttl', ttl) end
return reply('OK', index, want.since, int(want.expires), unpack(dropped))
