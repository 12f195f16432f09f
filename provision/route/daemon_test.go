// SPDX-License-Identifier: GPL-2.0-or-later

package route_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"ddtb/provision/route"
	"ddtb/provision/route/routetest"
)

// space moves the test into a network namespace of its own with a device for tunnels; its thread ends with the test.
func space(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	runtime.LockOSThread() // for good
	handle, err := netns.New()
	must(t, err)
	t.Cleanup(func() { handle.Close() })
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	tun := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "ddtb0"}, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI, Queues: 1}
	must(t, netlink.LinkAdd(tun))
	t.Cleanup(func() {
		for _, file := range tun.Fds {
			file.Close()
		}
	})
	must(t, netlink.LinkSetUp(tun))
}

func kernel(t *testing.T) *route.Kernel {
	t.Helper()
	table, err := route.Open("ddtb0")
	must(t, err)
	t.Cleanup(func() { must(t, table.Close()) })
	return table
}

func TestRootKernel(t *testing.T) {
	space(t)
	table := kernel(t)
	routetest.Run(t, table)
	prefix := netip.MustParsePrefix("2001:db8:1000:500::/56")
	must(t, table.Add(prefix))
	link, err := netlink.LinkByName("ddtb0")
	must(t, err)
	must(t, netlink.LinkDel(link))
	must(t, table.Delete(prefix)) // it went with the device
	if err := table.Add(prefix); err == nil {
		t.Error("a route to a device that is not there")
	}
}

// process is a program in the namespace.
func process(t *testing.T, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	must(t, err)
	var output bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, cmd.Start())
	t.Cleanup(func() {
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("%s said:\n%s", name, &output)
		}
	})
}

// shows awaits that a command prints something, or no longer does.
func shows(t *testing.T, what string, wanted bool, name string, args ...string) {
	t.Helper()
	var output []byte
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var err error
		output, err = exec.Command(name, args...).CombinedOutput()
		if err == nil && strings.Contains(string(output), what) == wanted {
			return
		}
	}
	t.Fatalf("%s %v: %q is to be shown: %v. It shows:\n%s", name, args, what, wanted, output)
}

// comeAndGo adds and deletes a subscriber's routes, which a routing daemon has to show; the pool's it has not.
func comeAndGo(t *testing.T, name string, args ...string) {
	t.Helper()
	table := kernel(t)
	prefix, endpoint := netip.MustParsePrefix("2001:db8:1000:500::/56"), netip.MustParsePrefix("2001:db8:f000:1::5/128")
	pool := "2001:db8:1000::/40"
	must(t, run("ip", "-6", "route", "add", pool, "via", "fe80::1", "dev", "ddtb0", "onlink", "proto", "153"))
	must(t, table.Add(endpoint))
	must(t, table.Add(prefix))
	shows(t, prefix.String(), true, name, args...)
	shows(t, endpoint.String(), true, name, args...)
	shows(t, pool, false, name, args...)
	must(t, table.Delete(prefix))
	shows(t, prefix.String(), false, name, args...)
	shows(t, endpoint.String(), true, name, args...)
}

func run(name string, args ...string) error {
	if output, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, output)
	}
	return nil
}

// TestRootBIRD: with the snippet of contrib BIRD learns a subscriber's route and forgets it.
func TestRootBIRD(t *testing.T) {
	space(t)
	dir := t.TempDir()
	snippet, err := filepath.Abs("../../contrib/bird/ddtb-bird.conf")
	must(t, err)
	config, socket := filepath.Join(dir, "bird.conf"), filepath.Join(dir, "bird.ctl")
	must(t, os.WriteFile(config, fmt.Appendf(nil, "router id 192.0.2.1;\ninclude %q;\n", snippet), 0o600))
	must(t, run("/usr/sbin/bird", "-p", "-c", config))
	process(t, "/usr/sbin/bird", "-f", "-c", config, "-s", socket)
	shows(t, "ddtb", true, "/usr/sbin/birdc", "-s", socket, "show", "protocols")
	comeAndGo(t, "/usr/sbin/birdc", "-s", socket, "show", "route", "protocol", "ddtb")
}

// TestRootFRR: with the snippet of contrib FRR tells a subscriber's route by BGP, and no longer when it is gone.
func TestRootFRR(t *testing.T) {
	space(t)
	dir, err := os.MkdirTemp("", "ddtb-frr-") // a test's own folder may have too long a name for sockets
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	snippet, err := os.ReadFile("../../contrib/frr/ddtb-frr.conf")
	must(t, err)
	config, zserv := filepath.Join(dir, "frr.conf"), filepath.Join(dir, "zserv")
	must(t, os.WriteFile(config, snippet, 0o644))
	must(t, run("chown", "frr:frr", dir)) // whom the daemons make themselves
	for _, daemon := range []string{"zebra", "bgpd"} {
		args := []string{"-f", config, "-i", filepath.Join(dir, daemon+".pid"), "-z", zserv, "--vty_socket", dir, "-u", "frr", "-g", "frr", "-P", "0"}
		if daemon == "bgpd" {
			args = append(args, "-p", "0")
		}
		process(t, "/usr/lib/frr/"+daemon, args...)
		shows(t, "FRR", true, "/usr/bin/vtysh", "--vty_socket", dir, "-d", daemon, "-c", "show version")
	}
	comeAndGo(t, "/usr/bin/vtysh", "--vty_socket", dir, "-d", "bgpd", "-c", "show bgp ipv6 unicast")
}
