-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- assert: a node says of leases that it serves them, after an epoch began.
-- ARGV: of each: user, session, node, index, since, milliseconds left, foreign prefix, forget, data
-- OK, then of each: "1", or what lost says if somebody else has it rightly; then dropped... | NOPOOL
if pool.size == 0 then return reply('NOPOOL') end

-- yields tells whether an entry has to give way to what the node says of it.
local function yields(e, user, session, since)
  if not e.state or e.user == user and e.session == session then return true end
  -- Released since; but it may be that only the session before this one was.
  if e.epoch == pool.epoch and not held(e) then return e.user == user and e.since ~= nil and tonumber(e.since) < since end
  if e.user == user then return not held(e) or doubtful(e) or tonumber(e.since) < since end
  if e.reserved then return false end
  return not held(e) or doubtful(e)
end

-- elsewhere tells whether the user logged in later, at another index.
local function elsewhere(user, index, since)
  local current, reserved = owned(user)
  for _, i in ipairs({current or 0, reserved or 0}) do
    if i ~= 0 and i ~= index then
      local e = entry(i)
      if held(e) and not doubtful(e) and tonumber(e.since) >= since then return true end
    end
  end
  return false
end

local out = {}
for i = 5, #ARGV, 9 do
  local user, session, index, since = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4])
  local e = entry(index)
  if held(e) and e.user == user and e.session == session and e.epoch == pool.epoch then
    out[#out + 1] = '1' -- confirmed already, perhaps with newer data
  elseif index >= pool.size or not yields(e, user, session, since) or elsewhere(user, index, since) then
    out[#out + 1] = lost(session, user)
  else
    local current, reserved = owned(user)
    local cur, res = current and entry(current), reserved and entry(reserved)
    if cur and current ~= index then owe(cur, user, ARGV[i + 2]); disown(cur) end
    if res and reserved ~= index and held(res) then owe(res, user, ARGV[i + 2]); finish(res, now) end
    local want = {user = user, session = session, node = ARGV[i + 2], since = ARGV[i + 4], expires = now + tonumber(ARGV[i + 5]), data = ARGV[i + 8]}
    if ARGV[i + 6] ~= '' then want.foreign = ARGV[i + 6] end
    if ARGV[i + 7] == '1' then want.forget = '1' end
    kept, e = want, entry(index)
    if held(e) and e.session == session then want.expires = math.max(want.expires, e.expires) end
    hold(e, want)
    out[#out + 1] = '1'
  end
end
for _, v in ipairs(dropped) do out[#out + 1] = v end
return reply('OK', unpack(out))
