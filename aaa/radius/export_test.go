// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import "github.com/prometheus/client_golang/prometheus/testutil"

// sent is how many datagrams went to the server.
func (s *server) sent() int {
	return int(testutil.ToFloat64(s.metrics.requests.WithLabelValues(s.Name)))
}
