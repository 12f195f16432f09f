// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"ddtb/provision/control"
)

// octets writes a count of octets in decimal units: "999 B", "1.5 kB".
func octets(n uint64) string { return scaled(float64(n), "B") }

// bits writes a rate: "1.2 Mbit/s".
func bits(perSecond float64) string { return scaled(perSecond, "bit/s") }

func scaled(n float64, unit string) string {
	prefixes := []string{"", "k", "M", "G", "T", "P", "E"}
	i := 0
	for n >= 999.95 && i < len(prefixes)-1 {
		n /= 1000
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%.0f %s", n, unit)
	}
	return fmt.Sprintf("%.1f %s%s", n, prefixes[i], unit)
}

// grouped writes a number with commas: "1,234,567".
func grouped[T int | uint32 | uint64](n T) string {
	text := strconv.FormatUint(uint64(n), 10)
	var out strings.Builder
	for i, digit := range text {
		if i > 0 && (len(text)-i)%3 == 0 {
			out.WriteByte(',')
		}
		out.WriteRune(digit)
	}
	return out.String()
}

// span writes a duration with its two largest units: "2d3h", "5m10s".
func span(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	}
}

// ago writes how long something is past, "-" for never.
func (t *tool) ago(when time.Time) string {
	if when.IsZero() {
		return "-"
	}
	return span(t.now().Sub(when))
}

// moment writes a time with how long it is past or still to come.
func (t *tool) moment(when time.Time) string {
	if when.IsZero() {
		return ""
	}
	text := when.Local().Format("2006-01-02 15:04:05 MST")
	if distance := t.now().Sub(when); distance >= 0 {
		return text + ", " + span(distance) + " ago"
	}
	return text + ", in " + span(when.Sub(t.now()))
}

// traffic writes both directions.
func traffic(c control.Traffic) string {
	return fmt.Sprintf("from the client %s in %s packets, to it %s in %s packets",
		octets(c.RxOctets), grouped(c.RxPackets), octets(c.TxOctets), grouped(c.TxPackets))
}

// address writes an address with port, without a port of 0.
func address(a netip.AddrPort) string {
	switch {
	case !a.Addr().IsValid():
		return "-"
	case a.Port() == 0:
		return a.Addr().String()
	default:
		return a.String()
	}
}

// orDash writes something optional.
func orDash[T fmt.Stringer](value *T) string {
	if value == nil {
		return "-"
	}
	return (*value).String()
}

// orNothing writes something optional in a description, where it is left out.
func orNothing[T fmt.Stringer](value *T) string {
	if value == nil {
		return ""
	}
	return (*value).String()
}

// joined writes prefixes with a blank between two.
func joined(all []netip.Prefix) string {
	texts := make([]string, 0, len(all))
	for _, p := range all {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, " ")
}
