-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- yield: ends the lease of a session, when it expired, since another pool's or user's claim to its foreign prefix is stronger.
-- ARGV: user, session, prefix, node and user of who claims it
-- OK | NOPOOL
if pool.size == 0 then return reply('NOPOOL') end
local current, reserved = owned(ARGV[5])
for _, i in ipairs({current or 0, reserved or 0}) do
  local e = entry(i)
  if held(e) and e.session == ARGV[6] and e.foreign == ARGV[7] then owe(e, ARGV[9], ARGV[8]); finish(e, math.min(now, e.expires)) end
end
return reply('OK')
