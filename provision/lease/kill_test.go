// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// The kill test: a child process works on a store and tells by a pipe what it is about to do and what was acknowledged;
// the parent kills it at some instant, opens the store and looks whether all that was acknowledged is there.
const (
	killDir   = "DDTB_LEASE_KILL_DIR" // the child's folder
	killCount = "DDTB_LEASE_KILLS"    // how many times the parent kills
	killLanes = 4                     // stores that children work on side by side

	killWorkers = 8
	killOwners  = 20 // a worker
	killCompact = 48 << 10
)

func killPools() []Pool {
	return []Pool{{
		// Fewer indices than owners, so that indices change hands.
		Name: "home", Size: killWorkers*killOwners - 20, EndpointBase: netip.MustParseAddr("2001:db8:8000::"),
		PrefixBase: netip.MustParseAddr("2001:db8:4000::"), PrefixLen: 56,
	}}
}

func openKilled(dir string, logger zerolog.Logger) (*Embedded, error) {
	return openEmbedded(dir, killPools(), Options{Quarantine: time.Nanosecond, Logger: logger}, killCompact)
}

// killRequest is what an owner asks for in a session: every fourth pair of owners fights for a foreign prefix.
func killRequest(owner, session int) Request {
	r := Request{
		Pool: "home", Owner: fmt.Sprint("owner", owner), Session: fmt.Sprint("s", session), Node: "node", TTL: time.Hour, Data: killData(session),
	}
	if owner%8 < 2 {
		r.Foreign = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0xf0, byte(owner / 2)}), 48)
	}
	return r
}

func killData(session int) []byte { return bytes.Repeat(fmt.Appendf(nil, "data of %d,", session), 15) }

// TestMain makes a child of the test binary without the way through the tests, since there are thousands of them.
func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		killChild(dir)
		return
	}
	os.Exit(m.Run())
}

// killChild works on a store until it is killed.
func killChild(dir string) {
	tell := os.NewFile(3, "parent")
	e, err := openKilled(dir, zerolog.Nop())
	if err != nil {
		fmt.Fprintf(tell, "error %v\n", err)
		return
	}
	fmt.Fprintln(tell, "ready")
	if rand.IntN(2) == 0 { // every other one is always somewhere in a compaction
		go func() {
			for {
				if err := e.journal.Compact(); err != nil {
					fmt.Fprintf(tell, "error %v\n", err)
					return
				}
			}
		}()
	}
	var sessions atomic.Int64
	sessions.Store(time.Now().UnixNano())
	var wg sync.WaitGroup
	for w := range killWorkers {
		wg.Go(func() {
			held := make(map[int]Holder)
			for {
				killStep(tell, e, w*killOwners+rand.IntN(killOwners), int(sessions.Add(1)), held)
			}
		})
	}
	wg.Wait()
}

// killStep does one thing for an owner. Each line is one write, so that it is in the pipe whole or not at all.
func killStep(tell io.Writer, e *Embedded, owner, session int, held map[int]Holder) {
	ctx := context.Background()
	holder, ok := held[owner]
	switch {
	case ok && rand.IntN(2) == 0:
		fmt.Fprintf(tell, "releasing %d\n", owner)
		if err := e.Release(ctx, holder); err != nil {
			fmt.Fprintf(tell, "error %v\n", err)
			return
		}
		fmt.Fprintf(tell, "released %d\n", owner)
		delete(held, owner)
	case ok && rand.IntN(2) == 0:
		// Data of another session, to be found with this one.
		fmt.Fprintf(tell, "extending %d %d\n", owner, session)
		holder.Data = killData(session)
		if lost, err := e.Extend(ctx, time.Hour, holder); err != nil || lost != nil {
			fmt.Fprintf(tell, "error lost %v, %v\n", lost, err)
			return
		}
		fmt.Fprintf(tell, "extended %d %d\n", owner, session)
	default:
		fmt.Fprintf(tell, "acquiring %d %d\n", owner, session)
		request := killRequest(owner, session)
		request.Tentative = rand.IntN(2) == 0
		l, err := e.Acquire(ctx, request)
		if err == nil && request.Tentative { // as an offer that is accepted
			request.Tentative, request.Index = false, l.Index
			l, err = e.Acquire(ctx, request)
		}
		switch {
		case errors.Is(err, ErrFull) || errors.Is(err, ErrTaken):
			fmt.Fprintf(tell, "refused %d\n", owner)
		case err != nil:
			fmt.Fprintf(tell, "error %v\n", err)
		default:
			fmt.Fprintf(tell, "acquired %d %d %d\n", owner, session, l.Index)
			held[owner] = Holder{Pool: l.Pool, Index: l.Index, Session: l.Session}
		}
	}
}

// killed is what the parent knows of an owner.
type killed struct {
	session, data int    // acknowledged; session 0: none
	index         uint32 // of that
	doing         string // what was begun and not acknowledged, "" nothing
	next          int    // the session or data of that
}

// killMoment is what the instant of a kill is counted from. On a busy machine a child has little time by the clock, so
// that some have to be counted in what it got done.
type killMoment uint8

const (
	sinceStart        killMoment = iota // it opens the store, or has not come to that
	sinceReady                          // it works, or is about to
	sinceAcknowledged                   // so many calls were
)

// killCycle is one child's kill after the other, again and again in each lane; once at least, whatever the time.
var killCycle = [...]killMoment{sinceAcknowledged, sinceReady, sinceStart, sinceAcknowledged, sinceReady}

// killStuck is when a child is given up that does not get done what it is to be killed after.
const killStuck = 3 * time.Minute

func TestKill(t *testing.T) {
	kills, patience := 2000, 40*time.Second // a busy machine gets through fewer
	if s := os.Getenv(killCount); s != "" {
		var err error
		if kills, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
		patience = 24 * time.Hour
	}
	var did killCounts
	var wg sync.WaitGroup
	end := time.Now().Add(patience)
	for range killLanes {
		lane := &killLane{T: t, dir: t.TempDir(), did: &did}
		wg.Go(func() {
			for i := 0; i < kills/killLanes && !t.Failed() && (i < len(killCycle) || time.Now().Before(end)); i++ {
				lane.life(killCycle[i%len(killCycle)])
				lane.check()
			}
		})
	}
	wg.Wait()
	t.Logf("%d kills, %d of them before the store was open, %d with a torn end; %d calls acknowledged, %d of them waited for",
		did.kills.Load(), did.early.Load(), did.torn.Load(), did.acknowledged.Load(), did.awaited.Load())
	if least := int64(min(kills/killLanes, len(killCycle)) * killLanes); !t.Failed() && (did.kills.Load() < least || did.awaited.Load() == 0) {
		t.Errorf("%d kills, %d calls waited for: at least %d and some expected", did.kills.Load(), did.awaited.Load(), least)
	}
}

type killLane struct {
	*testing.T
	dir    string
	owners [killWorkers * killOwners]killed
	did    *killCounts
}

// killCounts is what all lanes did together.
type killCounts struct {
	kills, early, torn, acknowledged atomic.Int64
	awaited                          atomic.Int64 // calls that a child had to get acknowledged before it was killed

	// A process about to be started holds, for a moment, a copy of every file of its parent, and with it the lock of a
	// store that is open there: so none is started while a store is open.
	starting sync.RWMutex
}

// life starts a child, kills it at some instant and takes down what it told.
func (l *killLane) life(since killMoment) {
	in, out, err := os.Pipe()
	if err != nil {
		l.Error(err)
		return
	}
	defer in.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killDir+"="+l.dir, "GOMAXPROCS=2")
	cmd.ExtraFiles = []*os.File{out}
	l.did.starting.Lock()
	err = cmd.Start()
	l.did.starting.Unlock()
	_ = out.Close() // the child has its own
	if err != nil {
		l.Error(err)
		return
	}
	l.did.kills.Add(1)
	kill := func() { _ = cmd.Process.Kill() }
	killWithin := func(most time.Duration) { time.AfterFunc(rand.N(most), kill) }
	if since == sinceStart {
		killWithin(15 * time.Millisecond)
	}
	stuck := time.AfterFunc(killStuck, kill)
	ready := l.listen(in, since, killWithin)
	_ = cmd.Wait() // it was killed
	if !ready {
		l.did.early.Add(1)
	}
	if !stuck.Stop() {
		l.Errorf("a child was not done after %v", killStuck)
	}
}

// listen takes down what the child tells until it is dead, and has it killed unless that was done. It reports whether
// the child had opened the store.
func (l *killLane) listen(in io.Reader, since killMoment, killWithin func(time.Duration)) (ready bool) {
	acknowledged, enough := int64(0), int64(1+rand.IntN(150))
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if lines.Text() == "ready" {
			if ready = true; since == sinceReady {
				killWithin(8 * time.Millisecond)
			}
			continue
		}
		acknowledges := l.hear(lines.Text())
		if l.Failed() {
			killWithin(time.Microsecond) // what it says from now on is of no use
		}
		if !acknowledges {
			continue
		}
		if acknowledged++; since == sinceAcknowledged && acknowledged == enough {
			l.did.awaited.Add(enough)
			killWithin(time.Millisecond)
		}
	}
	return ready
}

// hear takes down a line of the child, and reports whether it acknowledges a call.
func (l *killLane) hear(line string) bool {
	var what string
	var owner, session int
	var index uint32
	_, _ = fmt.Sscan(line, &what, &owner, &session, &index) // as many as there are
	k := &l.owners[owner]
	switch what {
	case "acquiring", "releasing", "extending":
		k.doing, k.next = what, session
		return false
	case "acquired":
		k.session, k.data, k.index = session, session, index
	case "released":
		k.session = 0
	case "extended":
		k.data = session
	case "refused":
	default:
		l.Errorf("the child says %q", line)
	}
	k.doing = ""
	l.did.acknowledged.Add(1)
	return true
}

// check opens the store that the child left and compares.
func (l *killLane) check() {
	l.did.starting.RLock()
	defer l.did.starting.RUnlock()
	var log bytes.Buffer
	e, err := openKilled(l.dir, zerolog.New(&log))
	if err != nil {
		l.Errorf("a killed store does not open: %v", err)
		return
	}
	if bytes.Contains(log.Bytes(), []byte("torn")) {
		l.did.torn.Add(1)
	}
	defer func() {
		if err := e.Close(); err != nil {
			l.Error(err)
		}
	}()
	found := make(map[string]Lease)
	taken := make(map[uint32]string)
	foreign := make(map[netip.Prefix]string)
	for lease, err := range e.All(context.Background()) {
		if err != nil {
			l.Error(err)
			return
		}
		if other, ok := taken[lease.Index]; ok {
			l.Errorf("index %d is %s's and %s's", lease.Index, other, lease.Owner)
		}
		if other, ok := found[lease.Owner]; ok {
			l.Errorf("%s has %d and %d", lease.Owner, other.Index, lease.Index)
		}
		if other, ok := foreign[lease.Prefix]; ok && lease.Foreign {
			l.Errorf("%v is %s's and %s's", lease.Prefix, other, lease.Owner)
		}
		taken[lease.Index], found[lease.Owner] = lease.Owner, lease
		if lease.Foreign {
			foreign[lease.Prefix] = lease.Owner
		}
	}
	for owner := range l.owners {
		l.checkOwner(owner, found[fmt.Sprint("owner", owner)])
	}
}

// checkOwner compares what was found with what was acknowledged, or begun, and takes it for acknowledged from now on.
func (l *killLane) checkOwner(owner int, lease Lease) {
	k := &l.owners[owner]
	before := killed{session: k.session, data: k.data, index: k.index}
	options := []killed{before}
	switch k.doing {
	case "acquiring":
		options = append(options, killed{session: k.next, data: k.next, index: lease.Index})
	case "releasing":
		options = append(options, killed{})
	case "extending":
		after := before
		after.data = k.next
		options = append(options, after)
	}
	for _, o := range options {
		if o.session == 0 {
			if lease.State != Active {
				*k = killed{}
				return
			}
			continue
		}
		want := killRequest(owner, o.session)
		if lease.State == Active && lease.Session == want.Session && lease.Index == o.index && bytes.Equal(lease.Data, killData(o.data)) &&
			lease.Foreign == want.Foreign.IsValid() && (!lease.Foreign || lease.Prefix == want.Foreign) {
			*k = o
			return
		}
	}
	l.Errorf("owner %d: found state %d, session %q, index %d, data of %d octets; known: %+v", owner, lease.State, lease.Session, lease.Index, len(lease.Data), *k)
}
