#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Loads the KUnit tests and reads what they say.
insmod "$UTUN_KUNIT" || exit
dmesg | grep -E '^\[[^]]*\] +(ok|not ok|# .*EXPECT| *#)' | sed 's/^\[[^]]*\] //'
dmesg | grep -qE '\] ok 1 utun$'
