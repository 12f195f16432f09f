// SPDX-License-Identifier: GPL-2.0-only
/*
 * utun: IPv6 in UDP in IPv4 for tunnel brokers (RFC 5572). uapi/utun.h is the specification; hub.h tells how things hang together.
 */
#include <linux/module.h>
#include <net/netns/generic.h>

#include "dev.h"
#include "gro.h"
#include "main.h"
#include "netlink.h"
#include "sit.h"
#include "tunnel.h"
#include "udp.h"

static unsigned int net_id __read_mostly;

struct utun_net *utun_net(const struct net *net)
{
	return net_generic(net, net_id);
}

static int __net_init net_init(struct net *net)
{
	INIT_LIST_HEAD(&utun_net(net)->hubs);
	return 0;
}

/* Devices end with their namespace by themselves: they cannot leave it. */
static void __net_exit net_exit(struct net *net)
{
	WARN_ON_ONCE(!list_empty(&utun_net(net)->hubs));
}

static struct pernet_operations net_ops = {
	.init = net_init,
	.exit = net_exit,
	.id = &net_id,
	.size = sizeof(struct utun_net),
};

static int __init utun_init(void)
{
	int err;

	utun_gro_init();
	err = utun_tunnel_init();
	if (err)
		return err;
	err = register_pernet_subsys(&net_ops);
	if (err)
		goto undo_tunnel;
	err = utun_sit_init();
	if (err)
		goto undo_net;
	err = utun_dev_init();
	if (err)
		goto undo_sit;
	err = utun_netlink_init();
	if (err)
		goto undo_dev;
	return 0;

undo_dev:
	utun_dev_exit();
undo_sit:
	utun_sit_exit();
undo_net:
	unregister_pernet_subsys(&net_ops);
undo_tunnel:
	utun_tunnel_exit();
	return err;
}

static void __exit utun_exit(void)
{
	utun_dev_exit();
	utun_udp_exit();
	utun_netlink_exit(); /* after whatever may have something to tell */
	utun_sit_exit();
	unregister_pernet_subsys(&net_ops);
	utun_tunnel_exit();
}

module_init(utun_init);
module_exit(utun_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("the ddtb team");
MODULE_DESCRIPTION("IPv6 in UDP in IPv4 for tunnel brokers (RFC 5572)");
MODULE_VERSION("1.0.0");
MODULE_ALIAS_RTNL_LINK("utun");
MODULE_ALIAS_GENL_FAMILY(UTUN_GENL_NAME);
