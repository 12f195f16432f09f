// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"ddtb/cmd/ddtb/e2e"
	"ddtb/provision/control"
)

// states waits until a server sees the servers in these states.
func (l *lab) states(isp *e2e.ISP, want map[string]string) error {
	return e2e.Await(startTime, func() error {
		var nodes []control.Node
		nodes, err := e2e.List[control.Node](isp, "server", "list")
		for _, n := range nodes {
			if state := want[n.Name]; state != "" && !strings.Contains(state, n.State) {
				err = errors.Join(err, fmt.Errorf("%s is %s, not %s", n.Name, n.State, state))
			}
		}
		if err == nil && len(nodes) < len(want) {
			err = fmt.Errorf("only %d servers are known", len(nodes))
		}
		return err
	})
}

// carries checks that a subscriber is reached from beyond and reaches it, and that one server alone has his session.
func (l *lab) carries(user string, host *e2e.Host, at *e2e.ISP, other *e2e.ISP) error {
	err := host.Reaches(e2e.BeyondIPv6)
	if err == nil {
		err = l.one.Beyond.Reaches(l.where[user])
	}
	if err == nil {
		_, err = at.Session(user)
	}
	if err == nil && other != nil {
		err = other.Gone(user)
	}
	if err != nil {
		return err
	}
	return l.run(l.one.Beyond, "ping", "-c", "2", "-i", "0.2", l.where[user].String())
}

// everywhere waits until a server knows which server has whom.
func (l *lab) everywhere(isp *e2e.ISP, want map[string]string) error {
	return e2e.Await(startTime, func() error {
		sessions, err := e2e.List[control.Session](isp, "session", "list", "--all-nodes")
		if err != nil {
			return err
		}
		got := map[string]string{}
		for _, s := range sessions {
			got[s.User] += s.Node
		}
		for user, node := range want {
			if got[user] != node {
				return fmt.Errorf("%s is said to be at %q, not at %s", user, got[user], node)
			}
		}
		return nil
	})
}

// clean takes away the interface of a client that was killed.
func (l *lab) clean(client *e2e.Subscriber) error {
	_, err := client.Host.Addresses(e2e.Device)
	if err != nil {
		return nil // it has gone with the process
	}
	_, err = client.Host.Run(l.ctx, "ip", "link", "delete", e2e.Device)
	return err
}

// record waits until FreeRADIUS has the record of a user's session and shows it.
func (l *lab) record(user, status string) error {
	var found string
	err := e2e.Await(startTime, func() error {
		records, err := l.records()
		for _, r := range records {
			if strings.Contains(r, `User-Name = "`+user+`"`) && strings.Contains(r, "Acct-Status-Type = "+status) {
				found = r
			}
		}
		if err == nil && found == "" {
			err = fmt.Errorf("FreeRADIUS has no %s of %s", status, user)
		}
		return err
	})
	if err == nil {
		l.prompt(l.office, "tail", "acct/detail")
		l.print(found)
	}
	return err
}

// records are what FreeRADIUS was told of sessions.
func (l *lab) records() ([]string, error) {
	text, err := os.ReadFile(filepath.Join(l.one.Dir, "radius", "acct", "detail"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n\n"), err
}

// balanced checks that no session was billed twice, and that all but two have ended.
func (l *lab) balanced() error {
	records, err := l.records()
	if err != nil {
		return err
	}
	starts, stops := map[string]int{}, map[string]int{}
	for _, r := range records {
		_, rest, _ := strings.Cut(r, "Acct-Session-Id = \"")
		id, _, ok := strings.Cut(rest, "\"")
		switch {
		case !ok: // of the server, not of a session
		case strings.Contains(r, "Acct-Status-Type = Start"):
			starts[id]++
		case strings.Contains(r, "Acct-Status-Type = Stop"):
			stops[id]++
		}
	}
	open := 0
	for id, n := range starts {
		if n != 1 || stops[id] > 1 {
			return fmt.Errorf("session %s has %d Start and %d Stop records", id, n, stops[id])
		}
		if stops[id] == 0 {
			open++
		}
	}
	if open != l.died || len(starts) < 6 {
		return fmt.Errorf("%d sessions, %d of them without Stop; expected at least 6, and %d", len(starts), open, l.died)
	}
	l.say("%d sessions, each billed once; %d died with ts2.", len(starts), l.died)
	return nil
}
