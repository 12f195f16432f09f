-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- holder: tells of the lease that a session of a user holds, other than two.
-- ARGV: user, session, session
-- OK | HELD lease now | NOPOOL
if pool.size == 0 then return reply('NOPOOL') end
local other = holder(ARGV[5], ARGV[6], ARGV[7])
if other then return reply('HELD', listed(other), now) end
return reply('OK')
