// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"os"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestRootFeatures asks what a veth can do: on a kernel with tcx, which is younger than the question, there is an answer.
func TestRootFeatures(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	enterSpace(t)
	check(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "dpfeat"}, PeerName: "dpfeatx"}))
	h, err := newHost()
	check(t, err)
	t.Cleanup(func() { check(t, h.Close()) })
	veth, err := h.inspect("dpfeat")
	check(t, err)
	if haveTCX() && !veth.known || veth.known && veth.features&(actBasic|actRedirect) != actBasic|actRedirect {
		t.Errorf("known %v: %#x", veth.known, veth.features)
	}
	if _, _, err := h.xdpFeatures(veth.index + 1000); veth.known && err == nil {
		t.Error("an interface that is not there has features")
	}
}
