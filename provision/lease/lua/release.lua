-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- release: ends leases that are held by the given sessions, and forgets what they are owed.
-- ARGV: of each lease: index, session
-- OK dropped... | NOPOOL
if pool.size == 0 then return reply('NOPOOL') end
for i = 5, #ARGV, 2 do
  local e = entry(ARGV[i])
  if held(e) and e.session == ARGV[i + 1] then finish(e, now) end
  forgive(ARGV[i + 1])
end
return reply('OK', unpack(dropped))
