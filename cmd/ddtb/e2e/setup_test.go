// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// prefix begins every name these tests leave outside their process.
const prefix = "ee"

// password is that of every subscriber here.
const password = "correct horse"

var raceReport = regexp.MustCompile(`WARNING: DATA RACE`)

// raise gives a test the small Internet.
func raise(t *testing.T) *Internet {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	internet, err := Raise(prefix, 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(internet.Close)
	return internet
}

// must ends the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Where the tests run without a Go toolchain, as in a virtual machine, the environment gives the folder of the built
// programs; it can name the driver for all tests that ask for none.
const (
	programsVariable = "DDTB_E2E_PROGRAMS"
	driverVariable   = "DDTB_E2E_DRIVER"
)

// programs gives the folder of ddtb, ddtbctl and tspc. Unless they are there already it builds them once, with the race
// detector if the tests run under it.
var programs = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv(programsVariable); dir != "" {
		return dir, nil
	}
	dir, err := os.MkdirTemp("", "ddtb-"+prefix+"-programs-")
	if err != nil {
		return "", err
	}
	args := []string{"build", "-o", dir}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "ddtb/cmd/ddtb", "ddtb/cmd/ddtbctl", "ddtb/cmd/tspc")...)
	build.Stderr = os.Stderr
	return dir, build.Run()
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := programs(); os.Getenv(programsVariable) == "" && dir != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// serve gives a test the small Internet with a running tunnel server, whose log is shown if the test fails.
func serve(t *testing.T, settings Settings) *ISP {
	t.Helper()
	internet := raise(t)
	dir, err := programs()
	must(t, err)
	if driver := os.Getenv(driverVariable); driver != "" && settings["datapath"] == "" {
		settings = maps.Clone(settings)
		if settings == nil {
			settings = Settings{}
		}
		settings["datapath"] = fmt.Sprintf("driver = %q\n", driver)
	}
	isp, err := NewISP(internet, dir, settings)
	must(t, err)
	launch(t, isp)
	return isp
}

// launch starts the daemon.
func launch(t *testing.T, isp *ISP) {
	t.Helper()
	err := isp.Start()
	if daemon := isp.Daemon(); daemon != nil {
		show(t, daemon)
	}
	must(t, err)
}

// show prints what a process said if the test fails, and makes a race that it found a failure. A process that still runs
// ends with the test.
func show(t *testing.T, process *Process) {
	t.Cleanup(func() {
		process.Kill()
		if raceEnabled && raceReport.MatchString(process.Output()) {
			t.Errorf("%s has a data race", process.Name)
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", process.Name, process.Output())
		}
	})
}

// subscribe makes the account and starts a client that is expected to get its tunnel. It gives the address.
func subscribe(t *testing.T, isp *ISP, host *Host, user, lines string) (*Subscriber, netip.Addr) {
	t.Helper()
	if user != "" {
		must(t, isp.AddUser(user, password))
	}
	subscriber, err := isp.Subscribe(host, user, password, lines)
	must(t, err)
	show(t, subscriber.Process)
	address, err := subscriber.Up()
	must(t, err)
	return subscriber, address
}

// carry sends TCP both ways between two hosts, a megabyte each.
func carry(t *testing.T, from *Host, source netip.Addr, to *Host, address netip.Addr) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := Transfer(ctx, from, to, address, 1<<20)
	_, back := Transfer(ctx, to, from, source, 1<<20)
	must(t, errors.Join(err, back))
}

// lossless stops flows and complains about what they lost, with what could tell where that was.
func lossless(t *testing.T, internet *Internet, flows ...*Flow) {
	t.Helper()
	whole := true
	for _, flow := range flows {
		sent, lost, err := flow.Stop()
		if err != nil || len(lost) > 0 {
			whole = false
			t.Errorf("%d of %d packets were lost: %s (%v)", len(lost), sent, ranges(lost), err)
		}
	}
	if !whole {
		t.Logf("counters:\n%s", internet.Counters())
	}
}

// ranges writes ascending numbers as ranges: whether packets were lost in a row or here and there tells much.
func ranges(numbers []uint64) string {
	var text []string
	for i := 0; i < len(numbers); {
		first := numbers[i]
		for i++; i < len(numbers) && numbers[i] == numbers[i-1]+1; i++ {
			continue
		}
		text = append(text, fmt.Sprintf("%d-%d", first, numbers[i-1]))
	}
	return strings.Join(text, " ")
}
