// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ddtb/provision/datapath"
)

func TestAggregates(t *testing.T) {
	config := datapath.Config{Pools: []datapath.Pool{
		{Size: 5, EndpointBase: netip.MustParseAddr("2001:db8:e::2"), PrefixBase: netip.MustParseAddr("2001:db8:1000::"), PrefixLen: 48},
		{Size: 1 << 16, EndpointBase: netip.MustParseAddr("2001:db8:f::")},
	}}
	var want []netip.Prefix
	for _, p := range []string{
		"2001:db8:e::2/127", "2001:db8:e::4/127", "2001:db8:e::6/128", "2001:db8:1000::/46", "2001:db8:1004::/48", "2001:db8:f::/112",
	} {
		want = append(want, netip.MustParsePrefix(p))
	}
	if diff := cmp.Diff(want, aggregates(config), comparers); diff != "" {
		t.Error(diff)
	}
}

func TestClientName(t *testing.T) {
	remote := netip.MustParseAddrPort("172.16.2.42:58022")
	if got := clientName(remote); got != "ac10022a_58022" {
		t.Errorf("%s", got)
	}
	for name, want := range map[string]bool{
		"ac10022a_58022": true, "ac10022a_58022b": true, "ac10022a_58022z": true,
		"ac10022a_58022a": false, "ac10022a_580221": false, "ac10022a_58022bb": false, "ac10022b_58022": false, "utun0": false,
	} {
		if got := isClientName(name, remote); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestFreeName(t *testing.T) {
	c := newClients()
	tunnel := exampleTunnel()
	for id := range uint32(26) {
		tunnel.ID = id
		name, err := c.free(tunnel)
		if err != nil || !isClientName(name, tunnel.Remote) {
			t.Fatalf("%q, %v", name, err)
		}
		c.note(id, &device{name: name})
	}
	if name, err := c.free(tunnel); err == nil {
		t.Errorf("27 tunnels of one outer address: %q", name)
	}
	c.forget(3)
	if name, err := c.free(tunnel); err != nil || name != "ac10022a_58022d" {
		t.Errorf("%q, %v", name, err)
	}
}

// TestNew: where the module is missing the error says what to do about it.
func TestNew(t *testing.T) {
	if _, err := New(Options{Layout: "ring", DSCP: "copy"}); err == nil || !strings.Contains(err.Error(), "layout") || !strings.Contains(err.Error(), "dscp") {
		t.Errorf("%v", err)
	}
	d, err := New(Options{})
	if err == nil {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		return
	}
	if !errors.Is(err, datapath.ErrNotSupported) || !strings.Contains(err.Error(), "modprobe utun") {
		t.Errorf("%v", err)
	}
}
