// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

// ledger is an accountant that knows what a session may be billed: one Start, one Stop behind it, and what comes again
// is the same; and Accounting-On only when none goes on.
type ledger struct {
	mu       sync.Mutex
	sessions map[string]map[aaa.Status]aaa.Record
	wrong    []string
}

func (l *ledger) Account(_ context.Context, r aaa.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Status == aaa.StatusOn || r.Status == aaa.StatusOff {
		for id, records := range l.sessions {
			if _, stopped := records[aaa.StatusStop]; !stopped {
				l.wrong = append(l.wrong, fmt.Sprintf("%s while session %s goes on", r.Status, id))
			}
		}
		return nil
	}
	s := l.sessions[r.Session]
	if s == nil {
		s = make(map[aaa.Status]aaa.Record)
		l.sessions[r.Session] = s
	}
	known, again := s[r.Status]
	_, started := s[aaa.StatusStart]
	_, stopped := s[aaa.StatusStop]
	switch {
	case again && r.Status != aaa.StatusInterim && !reflect.DeepEqual(known, r):
		l.wrong = append(l.wrong, fmt.Sprintf("first %+v, then %+v", known, r))
	case r.Status == aaa.StatusStop && r.Packets.Input < s[aaa.StatusInterim].Packets.Input:
		l.wrong = append(l.wrong, fmt.Sprintf("less than was told before: %+v, then %+v", s[aaa.StatusInterim], r))
	case r.Status != aaa.StatusStart && !started:
		l.wrong = append(l.wrong, fmt.Sprintf("never started: %+v", r))
	case r.Status != aaa.StatusStop && stopped && !again:
		l.wrong = append(l.wrong, fmt.Sprintf("stopped already: %+v", r))
	}
	s[r.Status] = r
	return nil
}

func (l *ledger) hasStopped(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.sessions[id][aaa.StatusStop]
	return ok
}

// life is a world in which processes are killed and started again, and what its subscribers know.
type life struct {
	*world
	*ledger
	random  *rand.Rand
	fuse    *fuse
	acked   map[string]Session // sessions that were accepted, by user, and that nobody ended
	offers  []Session
	sent    map[string]uint64 // packets, by session
	changed map[string][]byte // to what, by session
	shared  bool              // there is another server, whose logins take leases away
	poached map[string]bool   // sessions that lost theirs, and may not know
	exact   bool              // no process has been killed yet: every packet must be billed
}

func newLife(t *testing.T, seed uint64) *life {
	config := testConfig()
	config.Interim = 5 * time.Minute
	config.Sessions = Sessions{Limit: 1 + int(seed%2), Deny: seed%5 == 0}
	l := &life{
		world: newWorld(t, config), ledger: &ledger{sessions: make(map[string]map[aaa.Status]aaa.Record)},
		random: rand.New(rand.NewPCG(seed, 1)), acked: make(map[string]Session), sent: make(map[string]uint64), exact: true,
		changed: make(map[string][]byte), poached: make(map[string]bool),
	}
	l.fuse = &fuse{left: -1}
	if l.shared = seed%3 == 0; l.shared {
		l.peers = neighbours{}
	}
	l.plug()
	l.restart()
	return l
}

func (l *life) plug() {
	l.otherStore, l.otherPath = mortalStore{l.store, l.fuse}, mortalPath{l.path, l.fuse}
	l.accountant = mortalAccountant{l.ledger, l.fuse}
}

// step does one thing at random.
func (l *life) step() {
	ctx := l.Context()
	switch n := l.random.IntN(20); {
	case n < 6:
		l.offerStep(ctx)
	case n < 11 && len(l.offers) > 0:
		l.acceptStep(ctx)
	case n < 12 && len(l.offers) > 0:
		_ = l.Reject(ctx, l.offers[l.random.IntN(len(l.offers))].ID)
	case n < 14:
		for user, s := range l.acked {
			if err := l.Release(ctx, s.ID, aaa.CauseUserRequest); err == nil || l.fuse.blown() || errors.Is(err, ErrNotFound) {
				delete(l.acked, user)
			}
			break
		}
	case n < 17:
		l.trafficStep()
	case n < 18:
		l.changeStep(ctx)
	case n < 19 && l.shared:
		l.poachStep(ctx)
	default:
		l.clock.advance(time.Duration(l.random.IntN(60)) * time.Second)
		l.sweep(ctx)
	}
}

func (l *life) offerStep(ctx context.Context) {
	user := fmt.Sprint("user", l.random.IntN(5))
	r := request(user, client(1+l.random.IntN(4), uint16(1+l.random.IntN(3))))
	switch l.random.IntN(8) {
	case 0:
		r = anonymous(r.Client)
	case 1, 2:
		r = v6v4(r)
	case 3:
		r.Subscriber.Pool = "gold"
	case 4:
		r.Subscriber.Endpoint = testPools()[0].Endpoint(uint32(5 + l.random.IntN(3)))
	}
	if s, err := l.Offer(ctx, r); err == nil {
		l.offers = append(l.offers, s)
	}
}

func (l *life) acceptStep(ctx context.Context) {
	i := l.random.IntN(len(l.offers))
	s := l.offers[i]
	l.offers = append(l.offers[:i], l.offers[i+1:]...)
	err := l.Activate(ctx, s.ID)
	if l.fuse.blown() { // nobody knows how that went, nor what became of the one it replaced or displaced
		for user, old := range l.acked {
			if old.Owner == s.Owner || old.Client == s.Client {
				delete(l.acked, user)
			}
		}
		return
	}
	if err == nil {
		for user, old := range l.acked {
			if _, ok := l.Session(old.ID); !ok {
				delete(l.acked, user)
			}
		}
		l.acked[s.Owner] = s
	}
}

func (l *life) trafficStep() {
	for s := range l.Sessions(Filter{State: Active}) {
		if l.path.Count(s.TunnelID, datapath.Counters{RxPackets: 1, RxBytes: 100}) == nil {
			l.sent[s.ID]++
		}
	}
}

// changeStep changes a session. One that was changed stays so; where the process was killed nobody knows.
func (l *life) changeStep(ctx context.Context) {
	for s := range l.Sessions(Filter{State: Active}) {
		class := []byte{byte(l.random.IntN(256))}
		if err := l.Change(ctx, s.ID, Change{Class: [][]byte{class}, Rate: &aaa.Rate{Up: uint64(class[0])}}); err == nil {
			l.changed[s.ID] = class
		} else if l.fuse.blown() {
			delete(l.changed, s.ID)
		}
		return
	}
}

// kill ends the process after so many more calls, and starts the next, which may be killed while it recovers.
func (l *life) kill() {
	*l.fuse = fuse{left: l.random.IntN(12), effect: l.random.IntN(2) == 0}
	for range 30 {
		if l.step(); l.fuse.blown() {
			break
		}
	}
	l.offers = nil
	for l.random.IntN(3) == 0 {
		l.fuse = &fuse{left: l.random.IntN(6), effect: l.random.IntN(2) == 0}
		l.plug()
		b, err := New(l.config, Deps{
			Store: l.otherStore, Datapath: l.otherPath, Accountant: l.accountant, Clock: l.clock.Now, Logger: l.log,
		})
		if err != nil {
			l.Fatal(err)
		}
		_ = b.Recover(l.Context())
	}
	if l.random.IntN(4) == 0 { // the host went down with it
		l.path.Reboot()
		l.exact = false // what was counted since the last memo of each session is gone
	}
	if l.random.IntN(4) == 0 {
		l.clock.advance(time.Duration(l.random.IntN(120)) * time.Minute)
	}
	l.fuse = &fuse{left: -1}
	l.plug()
	l.restart()
}

// agree wants leases, tunnels and sessions to be the same.
func (l *life) agree() {
	l.Helper()
	sessions, ends := make(map[string]Session), make(map[string]Session)
	for s := range l.Sessions(Filter{State: Active}) {
		end := fmt.Sprint(s.Encap, s.Client)
		if other, ok := ends[end]; ok {
			l.Errorf("sessions %+v and %+v end at the same client", s, other)
		}
		sessions[s.ID], ends[end] = s, s
		l.forwards(s)
		if class, ok := l.changed[s.ID]; ok && (string(s.Subscriber.Class[0]) != string(class) || s.Subscriber.Rate.Up != uint64(class[0])) {
			l.Errorf("session %s is %+v, it was changed to %v", s.ID, s.Subscriber, class)
		}
		if lease := l.lease(s); !l.poached[s.ID] && lease.Session != s.ID || lease.Endpoint != s.Endpoint {
			l.Errorf("session %+v has lease %+v", s, lease)
		}
	}
	tunnels := 0
	for _, err := range l.path.All(l.Context()) {
		if err != nil {
			l.Fatal(err)
		}
		tunnels++
	}
	if tunnels != len(sessions) {
		l.Errorf("%d tunnels, %d sessions", tunnels, len(sessions))
	}
	for held, err := range l.store.All(l.Context()) {
		if err != nil {
			l.Fatal(err)
		}
		if _, ok := sessions[held.Session]; held.State == lease.Active && held.Node == l.config.Node && !ok {
			if _, offered := l.Session(held.Session); !offered {
				l.Errorf("lease %+v is of no session", held)
			}
		}
	}
	for user, s := range l.acked {
		if _, ok := sessions[s.ID]; !ok && !l.hasStopped(s.ID) {
			l.Errorf("the session of %s, %s, is lost", user, s.ID)
		}
	}
}

// settle ends everything and looks at the books.
func (l *life) settle() {
	l.Helper()
	for range 3 {
		l.clock.advance(3 * time.Hour)
		l.sweep(l.Context())
	}
	if n := l.count(Filter{}); n != 0 {
		l.Errorf("%d sessions do not end: %v", n, l.Status().SweepErr)
	}
	l.agree()
	if left := l.displaced(); len(left) != 0 {
		l.Errorf("displaced are %+v", left)
	}
	for _, wrong := range l.wrong {
		l.Error(wrong)
	}
	for id, records := range l.ledger.sessions {
		stop, ok := records[aaa.StatusStop]
		switch {
		case !ok:
			l.Errorf("session %s never stopped: %+v", id, records)
		case stop.Packets.Input > l.sent[id], l.exact && stop.Packets.Input < l.sent[id]:
			l.Errorf("session %s sent %d packets, billed were %d", id, l.sent[id], stop.Packets.Input)
		}
	}
	if len(l.locks.keys) != 0 || len(l.guests) != 0 || len(l.clients) != 0 || len(l.owners) != 0 || l.active != [3]int{} {
		l.Errorf("left over: %d locks, %v guests, %d clients, %d owners, %v active",
			len(l.locks.keys), l.guests, len(l.clients), len(l.owners), l.active)
	}
}

// Whatever is done and wherever the process is killed: every session is billed from one Start to one Stop, and the next
// process finds leases and tunnels that agree.
func TestEverySessionIsBilledOnce(t *testing.T) {
	lives := uint64(1500)
	if testing.Short() {
		lives = 150
	}
	for seed := range lives {
		l := newLife(t, seed)
		for range l.random.IntN(5) {
			for range l.random.IntN(40) {
				l.step()
			}
			l.agree()
			l.kill()
			l.agree()
		}
		for range 40 {
			l.step()
		}
		l.settle()
		if t.Failed() {
			t.Fatalf("in life %d", seed)
		}
	}
}
