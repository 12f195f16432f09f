// SPDX-License-Identifier: GPL-2.0-only
#include <linux/if_arp.h>
#include <linux/slab.h>
#include <net/ip_tunnels.h>
#include <net/rtnetlink.h>

#include "dev.h"
#include "drop.h"
#include "guard.h"
#include "main.h"
#include "table.h"
#include "tx.h"
#include "udp.h"

/* A shared device's beginning: nothing of it can be reached before it is registered. */
static int start_hub(struct net_device *dev)
{
	struct utun_port *port = netdev_priv(dev);
	struct utun_hub *hub;
	int err;

	hub = kzalloc(sizeof(*hub), GFP_KERNEL_ACCOUNT);
	if (!hub)
		return -ENOMEM;
	hub->dev = dev;
	mutex_init(&hub->lock);
	INIT_LIST_HEAD(&hub->ports);
	utun_remains_init(&hub->remains);
	utun_tallies_init(&hub->tallies);
	utun_udp_start(hub);
	err = utun_drops_init(hub);
	if (err)
		goto undo_hub;
	err = utun_foreigners_init(&hub->foreign);
	if (err)
		goto undo_drops;
	err = utun_guard_start(hub);
	if (err)
		goto undo_foreign;
	port->hub = hub;
	list_add_tail_rcu(&hub->list, &utun_net(dev_net(dev))->hubs);
	return 0;

undo_foreign:
	utun_foreigners_free(&hub->foreign);
undo_drops:
	utun_drops_free(hub);
undo_hub:
	kfree(hub);
	return err;
}

/* Its end: first nothing new can reach it, then what is on its way is waited for. Netlink may still hold the device. */
static void stop_hub(struct utun_hub *hub)
{
	list_del_rcu(&hub->list);
	utun_guard_stop(hub);
	mutex_lock(&hub->lock);
	WRITE_ONCE(hub->dead, true);
	mutex_unlock(&hub->lock);
	utun_udp_stop(hub);
	mutex_lock(&hub->lock);
	utun_config_end(hub);
	utun_remains_free(&hub->remains);
	mutex_unlock(&hub->lock);
	synchronize_net();
}

/* Nobody holds the device any more. */
static void free_hub(struct utun_hub *hub)
{
	utun_foreigners_free(&hub->foreign);
	utun_tallies_free(&hub->tallies);
	utun_drops_free(hub);
	mutex_destroy(&hub->lock);
	kfree(hub);
}

static void start_client(struct utun_port *port)
{
	dev_hold(port->hub->dev);
	list_add_tail(&port->list, &port->hub->ports);
}

static void stop_client(struct utun_port *port)
{
	struct utun_hub *hub = port->hub;

	list_del(&port->list);
	mutex_lock(&hub->lock);
	utun_table_unbind(hub, port);
	mutex_unlock(&hub->lock);
}

static int init(struct net_device *dev)
{
	struct utun_port *port = netdev_priv(dev);

	if (!port->client)
		return start_hub(dev);
	start_client(port);
	return 0;
}

static void uninit(struct net_device *dev)
{
	struct utun_port *port = netdev_priv(dev);

	if (port->client)
		stop_client(port);
	else
		stop_hub(port->hub);
}

/* The last reference is gone. A device that failed to be registered was never given a hub. */
static void destruct(struct net_device *dev)
{
	struct utun_port *port = netdev_priv(dev);

	if (port->client && port->hub)
		dev_put(port->hub->dev);
	else if (port->hub)
		free_hub(port->hub);
}

static int get_iflink(const struct net_device *dev)
{
	const struct utun_port *port = netdev_priv(dev);

	return port->client ? port->hub->dev->ifindex : dev->ifindex;
}

const struct net_device_ops utun_device_ops = {
	.ndo_init = init,
	.ndo_uninit = uninit,
	.ndo_start_xmit = utun_xmit,
	.ndo_get_stats64 = dev_get_tstats64,
	.ndo_get_iflink = get_iflink,
};

static const struct device_type device_type = { .name = "utun" };

#define FEATURES (NETIF_F_SG | NETIF_F_FRAGLIST | NETIF_F_HIGHDMA | NETIF_F_HW_CSUM | NETIF_F_RXCSUM | NETIF_F_GSO_SOFTWARE)

static void setup(struct net_device *dev)
{
	struct utun_port *port = netdev_priv(dev);

	port->dev = dev;
	dev->netdev_ops = &utun_device_ops;
	dev->needs_free_netdev = true;
	dev->pcpu_stat_type = NETDEV_PCPU_STAT_TSTATS;
	dev->priv_destructor = destruct;
	SET_NETDEV_DEVTYPE(dev, &device_type);
	dev->type = ARPHRD_NONE;
	dev->flags = IFF_POINTOPOINT | IFF_NOARP;
	dev->priv_flags |= IFF_NO_QUEUE;
	dev->features |= FEATURES;
	dev->hw_features |= FEATURES;
	utun_compat_flags(dev);
	dev->min_mtu = UTUN_MTU_MIN;
	dev->max_mtu = UTUN_MTU_MAX;
	dev->mtu = UTUN_MTU_MAX;
	dev->needed_headroom = LL_MAX_HEADER + sizeof(struct iphdr) + sizeof(struct udphdr);
}

static struct rtnl_link_ops link_ops;

/* A client device is one with a link, to a shared device of its namespace. */
static int newlink(struct net *src_net, struct net_device *dev, struct nlattr *tb[], struct nlattr *data[],
		   struct netlink_ext_ack *extack)
{
	struct utun_port *port = netdev_priv(dev), *shared;
	struct net_device *link;

	if (tb[IFLA_LINK]) {
		link = net_eq(src_net, dev_net(dev)) ? __dev_get_by_index(src_net, nla_get_u32(tb[IFLA_LINK])) : NULL;
		shared = link && utun_is_dev(link) ? netdev_priv(link) : NULL;
		if (!shared || shared->client) {
			NL_SET_ERR_MSG_ATTR(extack, tb[IFLA_LINK], "a shared utun device of this network namespace is expected");
			return -EINVAL;
		}
		port->client = true;
		port->hub = shared->hub;
	}
	return register_netdevice(dev);
}

static void dellink(struct net_device *dev, struct list_head *head)
{
	struct utun_port *port = netdev_priv(dev), *client;

	if (!port->client)
		list_for_each_entry(client, &port->hub->ports, list)
			unregister_netdevice_queue(client->dev, head);
	unregister_netdevice_queue(dev, head);
}

static struct net *get_link_net(const struct net_device *dev)
{
	return dev_net(dev);
}

static struct rtnl_link_ops link_ops __read_mostly = {
	.kind = "utun",
	.priv_size = sizeof(struct utun_port),
	.setup = setup,
	.newlink = newlink,
	.dellink = dellink,
	.get_link_net = get_link_net,
};

int utun_dev_init(void)
{
	return rtnl_link_register(&link_ops);
}

/* Ends all devices of all namespaces. */
void utun_dev_exit(void)
{
	rtnl_link_unregister(&link_ops);
}
