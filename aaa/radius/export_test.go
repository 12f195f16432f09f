// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"layeh.com/radius"
	"layeh.com/radius/rfc2866"
)

// sent is how many datagrams went to the server.
func (s *server) sent() int {
	return int(testutil.ToFloat64(s.metrics.requests.WithLabelValues(s.Name)))
}

// EncodeDisconnect makes a Disconnect-Request for a session.
func EncodeDisconnect(tb testing.TB, id byte, secret, session string) []byte {
	tb.Helper()
	p := &radius.Packet{Code: radius.CodeDisconnectRequest, Identifier: id, Secret: []byte(secret)}
	if err := rfc2866.AcctSessionID_SetString(p, session); err != nil {
		tb.Fatal(err)
	}
	b, err := p.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}
