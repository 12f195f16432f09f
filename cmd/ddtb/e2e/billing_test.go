// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ddtb/aaa/radius/radiustest"
	"ddtb/provision/control"
	"ddtb/tsp"
	"ddtb/tsp/sasl"
)

// billingTime is how long TestRootBilling goes on; DDTB_BILLING_TIME sets another ("10m").
const billingTime = 12 * time.Second

const billedSubscribers = 12

// TestRootBilling kills the daemon and the RADIUS server at random while subscribers log in, send, log in anew and go away in
// every way there is. Then the server's detail file tells of each session one Start, one Stop, and what its client counted.
func TestRootBilling(t *testing.T) {
	var users strings.Builder
	for n := range billedSubscribers {
		fmt.Fprintf(&users, "s%d\tCleartext-Password := %q\n\tClass = 0x%02x, Chargeable-User-Identity = \"cui%d\"\n\n", n, password, n, n)
	}
	b := openBilling(t, users.String())
	lasts := billingTime
	if text := os.Getenv("DDTB_BILLING_TIME"); text != "" {
		var err error
		lasts, err = time.ParseDuration(text)
		must(t, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for n := range billedSubscribers {
		wg.Go(func() { b.live(ctx, fmt.Sprint("s", n)) })
	}
	kills := b.havoc(lasts)
	stop()
	wg.Wait()
	b.settle()
	b.audit(kills)
}

// billing is a tunnel server whose bill a real FreeRADIUS keeps, and what its clients say of their sessions.
type billing struct {
	*testing.T
	isp    *ISP
	radius *radiustest.Server

	mu       sync.Mutex
	sessions map[string]*usage // by the client's outer address, Calling-Station-Id
	port     uint16            // the next client's
	random   *rand.Rand        // of havoc
}

// usage is what a client counted of a session, inner octets. What was sent and not answered may have been counted or not.
type usage struct {
	up, down   uint64
	unanswered uint64
	uncertain  bool // whether it came to be
}

// openBilling starts FreeRADIUS on the tunnel server's host, with these users, and the tunnel server.
func openBilling(t *testing.T, users string) *billing {
	t.Helper()
	internet := raise(t)
	b := &billing{T: t, sessions: map[string]*usage{}, port: 20000, random: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))}
	b.radius = radiustest.StartBy(t, users, internet.Server.start)
	secret := internet.Dir + "/radius.secret"
	must(t, os.WriteFile(secret, []byte(radiustest.Secret), 0o600))
	dir, err := programs()
	must(t, err)
	b.isp, err = NewISP(internet, dir, Settings{
		"session": "keepalive_min = \"1s\"\nsweep = \"1s\"\noffer_timeout = \"3s\"\n",
		"aaa": fmt.Sprintf(`[aaa]
backends = ["radius"]
accounting = "radius"
[aaa.radius]
retransmit = "100ms"
timeout = "3s"
dead = "1s"
nas_address = "127.0.0.1"
[[aaa.radius.server]]
address = %q
secret_file = %q
[[aaa.radius.accounting]]
address = %q
secret_file = %q
`, b.radius.Auth, secret, b.radius.Acct, secret),
	})
	must(t, err)
	launch(t, b.isp)
	must(t, internet.Server.Reaches(BeyondIPv6)) // the neighbours are known: no packet waits for them
	return b
}

// havoc kills for so long, and says how often: the daemon, and each fourth time FreeRADIUS. Both run when it returns.
func (b *billing) havoc(lasts time.Duration) (kills [2]int) {
	for end := time.Now().Add(lasts); time.Now().Before(end) || kills[0] < 4; {
		b.pause(b.Context(), time.Duration(b.random.IntN(1200))*time.Millisecond)
		away := time.Duration(b.random.IntN(500)) * time.Millisecond
		if kills[0]%4 == 2 && kills[1] <= kills[0]/4 {
			kills[1]++
			b.radius.Stop()
			b.pause(b.Context(), 3*away)
			b.radius.Run()
			continue
		}
		kills[0]++
		b.isp.Daemon().Kill()
		b.pause(b.Context(), away)
		launch(b.T, b.isp)
	}
	return kills
}

func (b *billing) pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// live is one subscriber: session after session, each ended in one of the ways there are.
func (b *billing) live(ctx context.Context, user string) {
	var last net.Conn
	for ctx.Err() == nil {
		socket, offer, err := b.login(user)
		if err != nil {
			continue // whoever answers is dead just now
		}
		if last != nil {
			_ = last.Close() // the session there was replaced by this one
		}
		last = socket
		b.use(ctx, socket, offer)
		if rand.IntN(2) == 0 { // #nosec G404
			b.logout(user)
		}
		if rand.IntN(6) == 0 { // #nosec G404
			b.pause(ctx, 4*time.Second) // long enough to be lost
		}
	}
	if last != nil {
		_ = last.Close()
	}
}

// dial opens a socket from a port of its own on the open host.
func (b *billing) dial() (socket *net.UDPConn, err error) {
	b.mu.Lock()
	b.port++
	from := netip.AddrPortFrom(OpenIPv4, b.port)
	b.mu.Unlock()
	err = b.isp.Open.Do(func() error {
		socket, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(from), net.UDPAddrFromAddrPort(netip.AddrPortFrom(ServerIPv4, tsp.Port)))
		return err
	})
	return socket, err
}

// dialogue begins one and logs in.
func (b *billing) dialogue(ctx context.Context, user string) (*tsp.Conn, *net.UDPConn, error) {
	socket, err := b.dial()
	if err != nil {
		return nil, nil, err
	}
	client := tsp.Client{User: user, Password: password, Mechanisms: []sasl.Mechanism{sasl.Plain}, MinRTO: 300 * time.Millisecond, Tries: 4}
	conn, err := client.Start(ctx, socket)
	if err != nil {
		return nil, nil, err
	}
	if err := conn.Login(ctx); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, socket, nil
}

// login gets a tunnel. One whose Accept was not answered may be in force or not: nothing is sent through it.
func (b *billing) login(user string) (net.Conn, tsp.Offer, error) {
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	conn, socket, err := b.dialogue(ctx, user)
	if err != nil {
		return nil, tsp.Offer{}, err
	}
	offer, err := conn.Create(ctx, tsp.Request{Type: tsp.V6UDPV4, Keepalive: time.Second})
	if err != nil {
		return nil, offer, errors.Join(err, conn.Close())
	}
	b.mu.Lock()
	session := &usage{uncertain: true}
	b.sessions[socket.LocalAddr().String()] = session
	b.mu.Unlock()
	if err := conn.Accept(ctx); err != nil {
		return nil, offer, errors.Join(err, conn.Close())
	}
	session.uncertain = false
	return conn.Detach(), offer, nil
}

// logout ends the subscriber's tunnel by TSP, if somebody answers.
func (b *billing) logout(user string) {
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	conn, _, err := b.dialogue(ctx, user)
	if err != nil {
		return
	}
	_ = conn.Delete(ctx)
	_ = conn.Close()
}

// use sends echo requests of many sizes to the host beyond and counts them and the answers.
func (b *billing) use(ctx context.Context, socket net.Conn, offer tsp.Offer) {
	b.mu.Lock()
	session := b.sessions[socket.LocalAddr().String()]
	b.mu.Unlock()
	buffer := make([]byte, 2048)
	for sequence := range uint16(20 + rand.IntN(200)) { // #nosec G404
		if ctx.Err() != nil {
			return
		}
		data := make([]byte, rand.IntN(1200)) // #nosec G404
		packet := echoRequest(offer.ClientIPv6, BeyondIPv6, sequence, data)
		_ = socket.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err := socket.Write(packet); err != nil {
			return
		}
		n, err := socket.Read(buffer)
		if err != nil || !isEchoReply(buffer[:n], offer.ClientIPv6, BeyondIPv6, sequence, data) {
			session.unanswered += uint64(len(packet))
			return
		}
		session.up += uint64(len(packet))
		session.down += uint64(n)
	}
}

// settle waits until every session has ended and FreeRADIUS has every record.
func (b *billing) settle() {
	b.Helper()
	must(b.T, b.isp.Empty())
	must(b.T, Await(2*time.Minute, func() error {
		var status control.AccountingStatus
		if err := b.isp.Get(&status, "acct", "status"); err != nil {
			return err
		}
		if status.Pending+status.Parked > 0 {
			return fmt.Errorf("accounting: %+v", status)
		}
		return nil
	}))
}

// audit holds the bill against what the clients counted.
func (b *billing) audit(kills [2]int) {
	b.Helper()
	type bill struct{ start, stop, again int }
	bills, stops := map[string]*bill{}, map[string]radiustest.Record{}
	seen := map[string]radiustest.Record{}
	for _, r := range b.radius.Records() {
		session, status := r["Acct-Session-Id"], r["Acct-Status-Type"]
		if session == "" {
			continue // On
		}
		if bills[session] == nil {
			bills[session] = &bill{}
		}
		if before, ok := seen[session+status]; ok && status != "Interim-Update" {
			bills[session].again++
			b.same(before, r)
			continue
		}
		seen[session+status] = r
		switch status {
		case "Start":
			bills[session].start++
		case "Stop":
			bills[session].stop++
			if _, two := stops[r["Calling-Station-Id"]]; two {
				b.Errorf("two sessions at %s", r["Calling-Station-Id"])
			}
			stops[r["Calling-Station-Id"]] = r
		}
	}
	again, octets, causes := 0, uint64(0), map[string]int{}
	for session, bill := range bills {
		if bill.start != 1 || bill.stop != 1 {
			b.Errorf("session %s: %d Start, %d Stop records", session, bill.start, bill.stop)
		}
		again += bill.again
	}
	for client, session := range b.sessions {
		octets += b.compare(client, session, stops, causes)
	}
	if octets == 0 || len(bills) < billedSubscribers || kills[0] == 0 {
		b.Errorf("%d octets of %d sessions billed, %d kills: nothing was tried", octets, len(bills), kills[0])
	}
	b.Logf("%d sessions, %d octets; daemon killed %d times, FreeRADIUS %d times; %d records came twice; causes %v",
		len(bills), octets, kills[0], kills[1], again, causes)
}

// same wants a record that came again to be the same but for what tells when it came.
func (b *billing) same(first, again radiustest.Record) {
	b.Helper()
	first, again = maps.Clone(first), maps.Clone(again)
	for _, name := range []string{"Acct-Delay-Time", "Timestamp", "Packet-Src-Port", "Tmp-String-9"} {
		delete(first, name)
		delete(again, name)
	}
	if !maps.Equal(first, again) {
		b.Errorf("a record came twice and differs:\n%v\n%v", first, again)
	}
}

// compare holds one session's Stop record against what its client counted, and gives the octets billed.
func (b *billing) compare(client string, session *usage, stops map[string]radiustest.Record, causes map[string]int) uint64 {
	b.Helper()
	stop, billed := stops[client]
	switch {
	case !billed && session.uncertain:
		return 0
	case !billed:
		b.Errorf("%s: %d octets sent, never billed", client, session.up)
		return 0
	}
	delete(stops, client)
	causes[stop["Acct-Terminate-Cause"]]++
	up, down := octetsOf(stop, "Input"), octetsOf(stop, "Output")
	if up < session.up || up > session.up+session.unanswered || down < session.down || down > session.down+session.unanswered {
		b.Errorf("%s: billed %d up and %d down, the client counted %d (and %d unanswered) and %d: %v",
			client, up, down, session.up, session.unanswered, session.down, stop)
	}
	return up + down
}

// octetsOf joins the low and the high word of a counter.
func octetsOf(r radiustest.Record, direction string) uint64 {
	low, _ := strconv.ParseUint(r["Acct-"+direction+"-Octets"], 10, 32)
	high, _ := strconv.ParseUint(r["Acct-"+direction+"-Gigawords"], 10, 32)
	return high<<32 + low
}
