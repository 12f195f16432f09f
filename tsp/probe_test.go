// SPDX-License-Identifier: GPL-2.0-or-later

package tsp_test

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"ddtb/tsp"
)

// TestProbe: the brokers that answer, the nearest first. They listen on the port of the protocol, which is taken at addresses out of
// 127.0.0.0/8 that nobody else uses.
func TestProbe(t *testing.T) {
	delays := map[string]time.Duration{"127.31.36.1": 60 * time.Millisecond, "127.31.36.2": 0, "127.31.36.3": 30 * time.Millisecond}
	for address, delay := range delays {
		socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(address), Port: tsp.Port})
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		go func() {
			b := make([]byte, 100)
			for {
				n, from, err := socket.ReadFromUDPAddrPort(b)
				if err != nil {
					return
				}
				if string(b[8:n]) != "ECHO REQUEST" {
					t.Errorf("%q", b[8:n])
				}
				answer := append(slices.Clone(b[:8]), "200 Success\r\n"...)
				time.AfterFunc(delay, func() { _, _ = socket.WriteToUDPAddrPort(answer, from) })
			}
		}()
	}
	var brokers []tsp.Broker
	for _, address := range []string{"127.31.36.1", "127.31.36.9", "127.31.36.2", "127.31.36.3"} { // nobody is at .9
		brokers = append(brokers, tsp.Broker{Addr: netip.MustParseAddr(address)})
	}
	client := tsp.Client{MinRTO: patience}
	got := client.Probe(ctxOf(t), append(brokers, tsp.Broker{Name: "no such name"}))
	if want := []tsp.Broker{brokers[2], brokers[3], brokers[0]}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if name := (tsp.Broker{Name: "b.example"}).String(); name != "b.example" {
		t.Error(name)
	}
}
