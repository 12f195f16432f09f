// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"ddtb/provision/datapath"
)

// header is the specification of the module's interface.
const uapiHeader = "../../../kmod/uapi/utun.h"

var (
	comment    = regexp.MustCompile(`(?s)/\*.*?\*/`)
	definition = regexp.MustCompile(`(?m)^#define\s+(UTUN_\w+)\s+(.+)$`)
	enum       = regexp.MustCompile(`(?s)enum \w+ \{(.*?)\}`)
)

// constants are the numbers and texts of the header, by their names.
func constants(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(uapiHeader)
	if err != nil {
		t.Fatal(err)
	}
	source := comment.ReplaceAllString(string(text), "")
	found := map[string]string{}
	for _, match := range definition.FindAllStringSubmatch(source, -1) {
		found[match[1]] = strings.TrimSpace(match[2])
	}
	for _, match := range enum.FindAllStringSubmatch(source, -1) {
		number := 0
		for _, name := range strings.Split(match[1], ",") {
			name = strings.TrimSpace(name)
			if name == "" || strings.ContainsAny(name, "= ") || strings.HasPrefix(name, "__") {
				continue
			}
			found[name] = strconv.Itoa(number)
			number++
		}
	}
	return found
}

// TestConstants holds what Go says against what C says.
func TestConstants(t *testing.T) {
	there := constants(t)
	for name, ours := range map[string]int{
		"UTUN_GENL_VERSION": genlVersion, "UTUN_LOCALS_MAX": localsMax, "UTUN_POOLS_MAX": poolsMax, "UTUN_BATCH_MAX": batchMax,
		"UTUN_MTU_MIN": datapath.MinMTU, "UTUN_MTU_MAX": datapath.MaxMTU,

		"UTUN_CMD_DEV_SET": int(cmdDevSet), "UTUN_CMD_DEV_GET": int(cmdDevGet), "UTUN_CMD_SOCKET_ATTACH": int(cmdSocketAttach),
		"UTUN_CMD_SOCKET_DETACH": int(cmdSocketDetach), "UTUN_CMD_TUNNEL_SET": int(cmdTunnelSet),
		"UTUN_CMD_TUNNEL_DEL": int(cmdTunnelDel), "UTUN_CMD_TUNNEL_GET": int(cmdTunnelGet), "UTUN_CMD_DROPS_GET": int(cmdDropsGet),

		"UTUN_A_PAD": int(attrPad), "UTUN_A_IFINDEX": int(attrIfindex), "UTUN_A_FD": int(attrFD), "UTUN_A_LOCAL": int(attrLocal),
		"UTUN_A_POOL": int(attrPool), "UTUN_A_SERVER": int(attrServer), "UTUN_A_MTU": int(attrMTU), "UTUN_A_KEEP": int(attrKeep),
		"UTUN_A_FLAGS": int(attrFlags), "UTUN_A_TUNNELS": int(attrTunnels), "UTUN_A_SOCKET": int(attrSocket),
		"UTUN_A_TUNNEL": int(attrTunnel), "UTUN_A_ID": int(attrID), "UTUN_A_START": int(attrStart), "UTUN_A_DROP": int(attrDrop),

		"UTUN_LOCAL_A_ADDR": int(localAddr), "UTUN_LOCAL_A_PORT": int(localPort),

		"UTUN_POOL_A_FIRST": int(poolFirst), "UTUN_POOL_A_SIZE": int(poolSize), "UTUN_POOL_A_ENDPOINT": int(poolEndpoint),
		"UTUN_POOL_A_PREFIX": int(poolPrefix), "UTUN_POOL_A_PREFIX_LEN": int(poolPrefixLen),

		"UTUN_ENCAP_UDP": int(encapUDP), "UTUN_ENCAP_IP": int(encapIP),

		"UTUN_TUNNEL_A_PAD": int(tunnelPad), "UTUN_TUNNEL_A_ID": int(tunnelID), "UTUN_TUNNEL_A_SESSION": int(tunnelSession),
		"UTUN_TUNNEL_A_ENCAP": int(tunnelEncap), "UTUN_TUNNEL_A_LOCAL": int(tunnelLocal),
		"UTUN_TUNNEL_A_LOCAL_PORT": int(tunnelLocalPort), "UTUN_TUNNEL_A_REMOTE": int(tunnelRemote),
		"UTUN_TUNNEL_A_REMOTE_PORT": int(tunnelRemotePort), "UTUN_TUNNEL_A_ENDPOINT": int(tunnelEndpoint),
		"UTUN_TUNNEL_A_PREFIX": int(tunnelPrefix), "UTUN_TUNNEL_A_PREFIX_LEN": int(tunnelPrefixLen), "UTUN_TUNNEL_A_MTU": int(tunnelMTU),
		"UTUN_TUNNEL_A_IFINDEX": int(tunnelIfindex), "UTUN_TUNNEL_A_RX_RATE": int(tunnelRxRate), "UTUN_TUNNEL_A_TX_RATE": int(tunnelTxRate),
		"UTUN_TUNNEL_A_RX_BURST": int(tunnelRxBurst), "UTUN_TUNNEL_A_TX_BURST": int(tunnelTxBurst),
		"UTUN_TUNNEL_A_RX_PACKETS": int(tunnelRxPackets), "UTUN_TUNNEL_A_RX_BYTES": int(tunnelRxBytes),
		"UTUN_TUNNEL_A_TX_PACKETS": int(tunnelTxPackets), "UTUN_TUNNEL_A_TX_BYTES": int(tunnelTxBytes),
		"UTUN_TUNNEL_A_IDLE": int(tunnelIdle), "UTUN_TUNNEL_A_SEEN": int(tunnelSeen), "UTUN_TUNNEL_A_ROUTE": int(tunnelRoute),

		"UTUN_ROUTES_MAX": datapath.MaxRoutes, "UTUN_ROUTE_A_ADDR": int(routeAddr), "UTUN_ROUTE_A_LEN": int(routeLen),

		"UTUN_RATE_MIN": rateMin, "UTUN_DROP_UNATTENDED": int(dropUnattended),

		"UTUN_DROP_A_PAD": int(dropPad), "UTUN_DROP_A_REASON": int(dropReason), "UTUN_DROP_A_PACKETS": int(dropPackets),
		"UTUN_DROP_A_AGE": int(dropAge), "UTUN_DROP_A_ID": int(dropID), "UTUN_DROP_A_ENCAP": int(dropEncap),
		"UTUN_DROP_A_REMOTE": int(dropRemote), "UTUN_DROP_A_REMOTE_PORT": int(dropRemotePort), "UTUN_DROP_A_INNER": int(dropInner),
	} {
		if value, ok := there[name]; !ok || value != strconv.Itoa(ours) {
			t.Errorf("%s: %d in Go, %q in C", name, ours, value)
		}
	}
	for name, want := range map[string]string{
		"UTUN_GENL_NAME": strconv.Quote(genlName), "UTUN_KEEP_FOREVER": "0x" + strconv.FormatUint(keepForever, 16) + "U",
		"UTUN_F_PIPE": "(1 << 1)", "UTUN_F_TSP": "(1 << 2)",
	} {
		if there[name] != want {
			t.Errorf("%s: %s in Go, %q in C", name, want, there[name])
		}
	}
}

// TestReasons holds the numbers of the reasons against their names.
func TestReasons(t *testing.T) {
	seen := 0
	for name, value := range constants(t) {
		word, ok := strings.CutPrefix(name, "UTUN_DROP_")
		if !ok || word == "UNSPEC" || word == "MAX" || strings.HasPrefix(word, "A_") {
			continue
		}
		seen++
		number, err := strconv.ParseUint(value, 10, 8)
		if err != nil {
			t.Fatal(err)
		}
		if word == "POLICED" {
			word = string(datapath.RateExceeded)
		}
		if got := reasonOf(uint8(number)); string(got) != strings.ToLower(word) {
			t.Errorf("%s is %q", name, got)
		}
	}
	if want := len(datapath.Reasons()) + 1; seen != want {
		t.Errorf("%d reasons in C, %d in Go", seen, want)
	}
	if got := reasonOf(0) + reasonOf(dropUnattended+1); got != "" {
		t.Errorf("unknown numbers are %q", got)
	}
}
