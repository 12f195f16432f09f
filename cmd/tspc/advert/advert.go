// SPDX-License-Identifier: GPL-2.0-or-later

// Package advert announces a delegated prefix on a LAN with Router Advertisements (RFC 4861 section 6.2), so that its
// hosts configure addresses, a default route and name servers (RFC 4862, RFC 8106) without a further daemon.
//
// It announces one /64 on one interface and what remains of those before it. When the tunnel is down the prefix stays
// and the router lifetime is 0: hosts keep their addresses and fail at once instead of hanging.
package advert

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rs/zerolog"
)

// Constants of RFC 4861 section 6.2.1 and section 10.
const (
	maxInterval        = 600 * time.Second
	minInterval        = 200 * time.Second
	maxInitialInterval = 16 * time.Second
	maxInitial         = 3
	minDelay           = 3 * time.Second
	maxResponseDelay   = 500 * time.Millisecond
)

// maxOld bounds the prefixes that are announced as no longer ours.
const maxOld = 4

// Content is what is announced. The zero Content stands for nothing.
type Content struct {
	Prefix    netip.Prefix // a /64
	MTU       int          // the tunnel's: hosts then send nothing that does not fit
	Router    bool         // this machine leads to the Internet
	Resolvers []netip.Addr // those with an IPv6 address are announced
}

func (c Content) equal(other Content) bool {
	return c.Prefix == other.Prefix && c.MTU == other.MTU && c.Router == other.Router &&
		slices.Equal(c.Resolvers, other.Resolvers)
}

// Link is a LAN. Send and Receive may run at the same time.
type Link interface {
	// Send sends an advertisement to all nodes.
	Send(content Content, last []old, final bool) error
	// Receive waits for the next valid Router Solicitation. After Close it returns an error.
	Receive() error
	Close() error
}

// Announcer announces until it is closed.
type Announcer struct {
	link     Link
	rand     func() float64
	log      zerolog.Logger
	contents chan Content
	stop     chan struct{}
	finished chan struct{}
}

// New starts an Announcer with nothing to announce. It owns link.
func New(link Link, rand func() float64, log zerolog.Logger) *Announcer {
	a := &Announcer{
		link: link, rand: rand, log: log,
		contents: make(chan Content), stop: make(chan struct{}), finished: make(chan struct{}),
	}
	go a.run()
	return a
}

// Set announces content from now on. The same again changes nothing.
func (a *Announcer) Set(content Content) { a.contents <- content }

// Close says goodbye to the LAN (RFC 4861 section 6.2.5) and stops.
func (a *Announcer) Close() error {
	close(a.stop)
	<-a.finished
	return a.link.Close()
}

// schedule is when the next advertisement is due.
type schedule struct {
	timer   *time.Timer
	due     time.Time
	sent    time.Time // the last
	initial int       // how many of the first ones have been sent
}

func (a *Announcer) run() {
	defer close(a.finished)
	solicited := make(chan struct{})
	go a.receive(solicited)

	var content Content
	var last []old
	s := schedule{timer: time.NewTimer(maxInterval), due: time.Now().Add(maxInterval)}
	defer s.timer.Stop()
	for {
		select {
		case <-a.stop:
			if content.Prefix.IsValid() {
				a.send(content, last, true)
			}
			return
		case next := <-a.contents:
			if next.equal(content) {
				continue
			}
			last = retire(last, content.Prefix, next.Prefix, time.Now())
			content, s.initial = next, 0
			s.bringForward(0)
		case <-solicited:
			s.bringForward(time.Duration(a.rand() * float64(maxResponseDelay)))
		case <-s.timer.C:
			now := time.Now()
			last = slices.DeleteFunc(last, func(o old) bool { return !o.until.After(now) })
			if content.Prefix.IsValid() {
				a.send(content, last, false)
			}
			s.next(now, a.rand())
		}
	}
}

// bringForward makes the next advertisement due after d at the latest, but not within minDelay of the last (RFC 4861
// section 6.2.6).
func (s *schedule) bringForward(d time.Duration) {
	now := time.Now()
	due := now.Add(d)
	if earliest := s.sent.Add(minDelay); due.Before(earliest) {
		due = earliest
	}
	if due.Before(s.due) {
		s.due = due
		s.timer.Reset(due.Sub(now))
	}
}

// next makes the advertisement after one sent now due (RFC 4861 section 6.2.4).
func (s *schedule) next(now time.Time, chance float64) {
	s.sent = now
	pause := minInterval + time.Duration(chance*float64(maxInterval-minInterval))
	if s.initial++; s.initial < maxInitial {
		pause = min(pause, maxInitialInterval)
	}
	s.due = now.Add(pause)
	s.timer.Reset(pause)
}

// retire gives the prefixes that are no longer ours after from was replaced by to (RFC 9096 section 3.3).
func retire(last []old, from, to netip.Prefix, now time.Time) []old {
	last = slices.DeleteFunc(last, func(o old) bool { return o.prefix == to })
	if !from.IsValid() || from == to {
		return last
	}
	last = append(last, old{prefix: from, until: now.Add(validLifetime)})
	return last[max(0, len(last)-maxOld):]
}

func (a *Announcer) send(content Content, last []old, final bool) {
	if err := a.link.Send(content, last, final); err != nil {
		a.log.Warn().Err(err).Stringer("prefix", content.Prefix).Msg("prefix not announced on the LAN this time")
	}
}

// receive tells of each solicitation until the Announcer ends.
func (a *Announcer) receive(solicited chan<- struct{}) {
	for a.link.Receive() == nil {
		select {
		case solicited <- struct{}{}:
		case <-a.finished:
			return
		}
	}
}
