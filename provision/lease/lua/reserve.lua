-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- reserve: keeps an index for a user for ever, or no longer.
-- ARGV: index, user, on ("1")
-- OK | TAKEN | GRACE | NOPOOL
if pool.size == 0 then return reply('NOPOOL') end
local index, user, on = tonumber(ARGV[5]), ARGV[6], ARGV[7] == '1'
local e = entry(index)
local other = e.user ~= user
if other and (e.reserved or on and e.state and not rested(e)) then return reply('TAKEN') end
if (e.reserved ~= nil) == on then return reply('OK') end
local current, reserved = owned(user)
if not on then
  local after = {}
  for k, v in pairs(e) do after[k] = v end
  after.reserved = nil
  if held(e) then
    after.expires = math.max(e.expires, now) -- it rests from now on, at least
  else
    after.state, after.expires = 'idle', now + pool.quarantine
    if current then after.user = nil end
  end
  save(e, after)
  return reply('OK')
end
if reserved then return reply('TAKEN') end
if other and (unsure or e.state and pool.hold > now) or doubtful(e) then return reply('GRACE') end
if current and current ~= index then
  local c = entry(current)
  if not held(c) then disown(c) end
end
local after = {index = index, user = user, reserved = '1', state = 'reserved', expires = e.state and free(e) or pool.quarantine, epoch = pool.epoch}
if other then
  if held(e) then owe(e, user, '') end
  drop(e)
else
  for k, v in pairs(e) do after[k] = v end
  after.reserved = '1'
  if not held(e) then after.state = 'reserved' end
end
save(e, after)
return reply('OK', unpack(dropped))
