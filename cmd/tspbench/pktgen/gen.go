// SPDX-License-Identifier: GPL-2.0-or-later

package pktgen

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-14 -strip llvm-strip-14 -go-package pktgen -target bpfel -cflags "-O2 -g -Wall -Werror -mcpu=v3" object pktgen.bpf.c -- -I/usr/include/x86_64-linux-gnu
