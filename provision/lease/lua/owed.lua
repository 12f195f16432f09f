-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- owed: tells of what sessions have left that lost their leases to those of another node.
-- ARGV: cursor, 0 at first
-- OK next-cursor-or-0, a list with session and OWED of each | NOPOOL
if pool.size == 0 then return reply('NOPOOL') end
local page, out = redis.call('ZSCAN', K .. 'owed', ARGV[5], 'COUNT', 256), {}
for i = 1, #page[2], 2 do
  local session = page[2][i]
  local values = redis.call('HMGET', K .. 'owed:' .. session, unpack(OWED))
  if values[1] then
    out[#out + 1] = session
    for f = 1, #OWED do out[#out + 1] = values[f] or '' end
  end
end
return reply('OK', page[1], out)
