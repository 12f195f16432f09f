// SPDX-License-Identifier: GPL-2.0-or-later

package datapath

// RouteProtocol is the protocol number of all routes to the device, for `ip route show proto 153` and for routing
// daemons. contrib/iproute2 gives it the name ddtb.
const RouteProtocol = 153

// LeaseMetric is that of the routes to single subscribers, which a site may have beside those to whole pools
// (provision/route). Drivers leave routes of this metric alone.
const LeaseMetric = 512
