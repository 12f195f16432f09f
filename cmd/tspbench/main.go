// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

func main() {
	r := &report{out: os.Stdout, log: os.Stderr}
	err := packets(context.Background(), packetsOptions{tunnels: []uint{1, 1000, 50000, 1000000}, repeat: 5, duration: 200 * time.Millisecond, warm: 30 * time.Millisecond}, r)
	fmt.Println(err, r.print())
}
