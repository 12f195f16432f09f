// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"fmt"
	"os"
	"strings"
)

// counted are the files below /proc/net that tell where packets were dropped, with what begins the lines that do: with which
// protocol, in which queue, on which device, at which socket.
var counted = []struct{ file, lines string }{
	{"snmp", "Ip:"}, {"snmp", "Udp:"}, {"snmp6", "Udp6"}, {"softnet_stat", ""}, {"dev", ""}, {"udp", ""}, {"udp6", ""},
}

// Counters gives what the kernels of all hosts have counted, to look for a packet that was lost.
func (i *Internet) Counters() string {
	var text strings.Builder
	for _, host := range i.hosts {
		err := host.Do(func() error {
			for _, c := range counted {
				content, err := os.ReadFile("/proc/thread-self/net/" + c.file)
				if err != nil {
					return err
				}
				for line := range strings.Lines(string(content)) {
					if strings.HasPrefix(line, c.lines) {
						fmt.Fprintf(&text, "%s %s: %s", host.Name, c.file, line)
					}
				}
			}
			return nil
		})
		if err != nil {
			fmt.Fprintf(&text, "%s: %v\n", host.Name, err)
		}
	}
	return text.String()
}
