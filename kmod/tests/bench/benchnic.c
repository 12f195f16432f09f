// SPDX-License-Identifier: GPL-2.0-only
/*
 * benchnic - a network card that makes the packets it receives, for measuring what becomes of them
 *
 *	ip link add wan0 type benchnic
 *
 * Like the driver of a card it receives in its NAPI poll, into skbs of its own, and hands them to GRO; what it sends is counted
 * and freed. Nothing else is between the two but what is to be measured. A run is written to /proc/benchnic:
 *
 *	SOURCE SINK OUTER INNER LENGTH FLOWS PACKETS PORT
 *
 * So many packets are received by SOURCE, and the write returns when as many have been sent by SINK, which may be in another
 * namespace; ETIME: they were not. With "-" for SINK packets are made and freed at once: what the run itself costs. Reading gives
 * "PACKETS NANOSECONDS". One run at a time.
 *
 *	OUTER   up     IPv6 from a client to the core
 *	        down   IPv6 from the core to a client
 *	        udp    as up, in UDP in IPv4 to PORT of the server, checksum 0
 *	        ip     as up, in IPv4, protocol 41
 *	        vxlan  as up, in Ethernet to inner_mac, in VXLAN of network 1, in UDP as above
 *	INNER   udp    datagrams
 *	        tcp    data segments of one connection a client, in order
 *	LENGTH  octets of the IPv6 packet
 *	FLOWS   clients; each packet is from, or to, one chosen at random. It is the same sequence in each run
 *
 * Client i has the prefix 2a00:db8::/52 + i behind 10.0.0.2 + i/60000, port 1024 + i%60000, as `utunctl fill` has it; the core is
 * fd00:7::/96. Datagrams are between random hosts: else the kernel would spare itself to route one that has the destination of the
 * one before, and one client would seem cheaper than many.
 */
#include <linux/etherdevice.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/sched/clock.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/ip6_checksum.h>
#include <net/rtnetlink.h>

#define FRAME_MAX 1900
#define WINDOW 128	/* packets under way: some paths queue, and drop what is too much */
#define PATIENCE (20 * HZ)
#define PORTS 60000

enum outer { UP, DOWN, UDP, IP, VXLAN };

static const char * const outers[] = { "up", "down", "udp", "ip", "vxlan" };

static const u8 inner_mac[ETH_ALEN] = { 2, 0, 0, 0, 0, 10 };

struct nic {
	struct net_device *dev;
	struct napi_struct napi;
	struct list_head list;
	struct plan *plan;	/* under way, NULL: none */
};

struct plan {
	struct nic *source, *sink;	/* sink NULL: to nowhere */
	int outer;
	bool tcp, waits;
	u32 length, flows, packets, left, delivered;
	u16 port;
	u8 frame[FRAME_MAX];
	unsigned int size, inner;	/* octets of the frame, and of what is before the IPv6 header */
	__wsum sum;			/* of all that the inner checksum is over but addresses and sequence number */
	u32 sequence;
	u64 random;
	struct completion done;
};

static LIST_HEAD(nics);
static DEFINE_SPINLOCK(nics_lock);
static DEFINE_MUTEX(one_run);
static char result[64];

static void put_udp(struct udphdr *udp, u16 source, u16 dest, unsigned int size)
{
	udp->source = htons(source);
	udp->dest = htons(dest);
	udp->len = htons(size);
}

static void put_inner(struct plan *p)
{
	struct ipv6hdr *ip6 = (struct ipv6hdr *)(p->frame + p->inner);
	unsigned int size = p->length - sizeof(*ip6);
	struct tcphdr *tcp = (struct tcphdr *)(ip6 + 1);

	ip6->version = 6;
	ip6->payload_len = htons(size);
	ip6->nexthdr = p->tcp ? IPPROTO_TCP : IPPROTO_UDP;
	ip6->hop_limit = 64;
	ip6->saddr = (struct in6_addr){ .s6_addr = { 0xfd, 0, 0, 7, [15] = 1 } };
	ip6->daddr = ip6->saddr;
	if (p->tcp) {
		tcp->source = htons(4000);
		tcp->dest = htons(5001);
		tcp->doff = sizeof(*tcp) / 4;
		tcp->ack = 1;
		tcp->window = htons(512);
	} else {
		put_udp((struct udphdr *)tcp, 4000, 9, size);
	}
	p->sum = csum_partial(tcp, size, 0);
}

static void put_outer(struct plan *p)
{
	struct iphdr *ip = (struct iphdr *)(p->frame + ETH_HLEN);
	u8 *vxlan = (u8 *)(ip + 1) + sizeof(struct udphdr);

	ip->version = 4;
	ip->ihl = 5;
	ip->frag_off = htons(IP_DF); /* so that GRO takes no offence at the id, which is always 0 */
	ip->ttl = 64;
	ip->protocol = p->outer == IP ? IPPROTO_IPV6 : IPPROTO_UDP;
	ip->tot_len = htons(p->size - ETH_HLEN);
	ip->daddr = htonl(0x0a000001);
	if (p->outer != IP)
		put_udp((struct udphdr *)(ip + 1), 0, p->port, p->size - ETH_HLEN - sizeof(*ip));
	if (p->outer != VXLAN)
		return;
	vxlan[0] = 8;
	vxlan[6] = 1;
	ether_addr_copy(vxlan + 8, inner_mac);
	vxlan[8 + ETH_ALEN] = 2;
	put_unaligned_be16(ETH_P_IPV6, vxlan + 8 + 2 * ETH_ALEN);
}

/* The frame of the first packet, but for what make() changes in each. */
static int draw(struct plan *p)
{
	static const unsigned int room[] = {
		[UDP] = sizeof(struct iphdr) + sizeof(struct udphdr),
		[IP] = sizeof(struct iphdr),
		[VXLAN] = sizeof(struct iphdr) + sizeof(struct udphdr) + 8 + ETH_HLEN,
	};
	struct ethhdr *eth = (struct ethhdr *)p->frame;
	bool plain = p->outer == UP || p->outer == DOWN;

	p->inner = ETH_HLEN + room[p->outer];
	p->size = p->inner + p->length;
	if (p->length < sizeof(struct ipv6hdr) + sizeof(struct tcphdr) || p->size > FRAME_MAX)
		return -EMSGSIZE;
	ether_addr_copy(eth->h_dest, p->source->dev->dev_addr);
	eth->h_source[0] = 2;
	eth->h_proto = htons(plain ? ETH_P_IPV6 : ETH_P_IP);
	put_inner(p);
	if (!plain)
		put_outer(p);
	return 0;
}

static u32 next_flow(struct plan *p)
{
	p->random ^= p->random << 13;
	p->random ^= p->random >> 7;
	p->random ^= p->random << 17;
	return ((p->random >> 32) * p->flows) >> 32;
}

/* Writes a client, hosts and the checksum into an inner packet. */
static void set_client(struct plan *p, struct ipv6hdr *ip6, u32 flow)
{
	struct in6_addr *client = p->outer == DOWN ? &ip6->daddr : &ip6->saddr;
	struct in6_addr *core = p->outer == DOWN ? &ip6->saddr : &ip6->daddr;
	u32 host = p->tcp ? 1 : p->random;
	struct tcphdr *tcp = (struct tcphdr *)(ip6 + 1);
	unsigned int size = p->length - sizeof(*ip6);
	__wsum sum = p->sum;

	client->s6_addr32[0] = htonl(0x2a000db8);
	client->s6_addr32[1] = htonl(flow << 12);
	client->s6_addr32[3] = htonl(host);
	core->s6_addr32[3] = htonl(host);
	if (!p->tcp) {
		((struct udphdr *)tcp)->check = csum_ipv6_magic(&ip6->saddr, &ip6->daddr, size, IPPROTO_UDP, sum);
		return;
	}
	tcp->seq = htonl(p->sequence);
	p->sequence += size - sizeof(*tcp);
	tcp->check = csum_ipv6_magic(&ip6->saddr, &ip6->daddr, size, IPPROTO_TCP, csum_add(sum, (__force __wsum)tcp->seq));
}

static struct sk_buff *make(struct plan *p)
{
	struct sk_buff *skb = napi_alloc_skb(&p->source->napi, p->size);
	u32 flow = next_flow(p);
	struct iphdr *ip;

	if (!skb)
		return NULL;
	skb_put_data(skb, p->frame, p->size);
	set_client(p, (struct ipv6hdr *)(skb->data + p->inner), flow);
	if (p->outer != UP && p->outer != DOWN) {
		ip = (struct iphdr *)(skb->data + ETH_HLEN);
		ip->saddr = htonl(0x0a000002 + flow / PORTS);
		ip->check = ip_fast_csum(ip, 5);
		if (p->outer != IP)
			((struct udphdr *)(ip + 1))->source = htons(1024 + flow % PORTS);
	}
	skb->protocol = eth_type_trans(skb, p->source->dev);
	skb->ip_summed = CHECKSUM_UNNECESSARY; /* of the outermost transport header, as simple cards have it */
	return skb;
}

static void delivered(struct plan *p, u32 packets)
{
	p->delivered += packets;
	if (p->delivered >= p->packets)
		complete(&p->done);
	else if (p->waits && p->packets - p->left < p->delivered + WINDOW / 2)
		napi_schedule(&p->source->napi);
}

static int receive(struct napi_struct *napi, int budget)
{
	struct plan *p = READ_ONCE(container_of(napi, struct nic, napi)->plan);
	struct sk_buff *skb;
	int n = 0;

	while (p && p->left && n < budget && p->packets - p->left < p->delivered + WINDOW) {
		skb = make(p);
		if (!skb)
			break;
		p->left--;
		n++;
		if (p->sink) {
			napi_gro_receive(napi, skb);
		} else {
			consume_skb(skb);
			delivered(p, 1);
		}
	}
	if (p)
		p->waits = p->left && n < budget;
	if (n < budget)
		napi_complete_done(napi, n);
	return n;
}

static netdev_tx_t transmit(struct sk_buff *skb, struct net_device *dev)
{
	struct plan *p = READ_ONCE(((struct nic *)netdev_priv(dev))->plan);
	u32 packets = skb_is_gso(skb) ? skb_shinfo(skb)->gso_segs : 1;

	consume_skb(skb);
	if (p && p->sink == netdev_priv(dev))
		delivered(p, packets);
	return NETDEV_TX_OK;
}

static struct nic *find(const char *name)
{
	struct nic *nic;

	list_for_each_entry(nic, &nics, list)
		if (!strcmp(nic->dev->name, name))
			return nic;
	return NULL;
}

/* Both cards get the plan, or neither. */
static int take_cards(struct plan *p, const char *source, const char *sink)
{
	int err = 0;

	spin_lock_bh(&nics_lock);
	p->source = find(source);
	p->sink = find(sink);
	if (!p->source || (!p->sink && strcmp(sink, "-")))
		err = -ENODEV;
	else if (!netif_running(p->source->dev))
		err = -ENETDOWN;
	if (!err)
		err = draw(p);
	if (!err) {
		WRITE_ONCE(p->source->plan, p);
		if (p->sink)
			WRITE_ONCE(p->sink->plan, p);
	}
	spin_unlock_bh(&nics_lock);
	return err;
}

/* Cards are not removed while a run lasts; that is for those who measure to see to. */
static int run(struct plan *p, const char *source, const char *sink)
{
	int err = take_cards(p, source, sink);
	u64 begin, end;

	if (err)
		return err;
	begin = local_clock();
	local_bh_disable();
	napi_schedule(&p->source->napi);
	local_bh_enable();
	if (!wait_for_completion_timeout(&p->done, PATIENCE))
		err = -ETIME;
	end = local_clock();
	WRITE_ONCE(p->source->plan, NULL);
	if (p->sink)
		WRITE_ONCE(p->sink->plan, NULL);
	synchronize_net();
	if (err)
		pr_err("benchnic: %u of %u packets were delivered\n", p->delivered, p->packets);
	else
		snprintf(result, sizeof(result), "%u %llu\n", p->packets, end - begin);
	return err;
}

static int parse(struct plan *p, char *text)
{
	char source[IFNAMSIZ], sink[IFNAMSIZ], outer[8], inner[8];

	if (sscanf(text, "%15s %15s %7s %7s %u %u %u %hu", source, sink, outer, inner, &p->length, &p->flows, &p->packets,
		   &p->port) != 8)
		return -EINVAL;
	p->outer = match_string(outers, ARRAY_SIZE(outers), outer);
	if (p->outer < 0 || !p->flows || !p->packets)
		return -EINVAL;
	p->tcp = !strcmp(inner, "tcp");
	p->left = p->packets;
	p->random = 88172645463325252ULL;
	init_completion(&p->done);
	return run(p, source, sink);
}

static ssize_t write(struct file *file, const char __user *from, size_t size, loff_t *offset)
{
	struct plan *p;
	char text[128];
	int err;

	if (size >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, from, size))
		return -EFAULT;
	text[size] = 0;
	p = kzalloc(sizeof(*p), GFP_KERNEL);
	if (!p)
		return -ENOMEM;
	mutex_lock(&one_run);
	err = parse(p, text);
	mutex_unlock(&one_run);
	kfree(p);
	return err ?: size;
}

static ssize_t read(struct file *file, char __user *to, size_t size, loff_t *offset)
{
	return simple_read_from_buffer(to, size, offset, result, strlen(result));
}

static const struct proc_ops proc_ops = {
	.proc_write = write,
	.proc_read = read,
	.proc_lseek = default_llseek,
};

static int init(struct net_device *dev)
{
	struct nic *nic = netdev_priv(dev);

	nic->dev = dev;
	netif_napi_add(dev, &nic->napi, receive);
	spin_lock_bh(&nics_lock);
	list_add(&nic->list, &nics);
	spin_unlock_bh(&nics_lock);
	return 0;
}

static void uninit(struct net_device *dev)
{
	struct nic *nic = netdev_priv(dev);

	spin_lock_bh(&nics_lock);
	list_del(&nic->list);
	spin_unlock_bh(&nics_lock);
	netif_napi_del(&nic->napi);
}

static int open(struct net_device *dev)
{
	napi_enable(&((struct nic *)netdev_priv(dev))->napi);
	return 0;
}

static int stop(struct net_device *dev)
{
	napi_disable(&((struct nic *)netdev_priv(dev))->napi);
	return 0;
}

static const struct net_device_ops device_ops = {
	.ndo_init = init,
	.ndo_uninit = uninit,
	.ndo_open = open,
	.ndo_stop = stop,
	.ndo_start_xmit = transmit,
	.ndo_set_mac_address = eth_mac_addr,
};

#define FEATURES (NETIF_F_SG | NETIF_F_HIGHDMA | NETIF_F_HW_CSUM | NETIF_F_RXCSUM | NETIF_F_GSO_SOFTWARE | NETIF_F_GSO_ENCAP_ALL)

/* Neighbours need no resolution. */
static void setup(struct net_device *dev)
{
	ether_setup(dev);
	dev->netdev_ops = &device_ops;
	dev->needs_free_netdev = true;
	dev->flags = IFF_NOARP | IFF_BROADCAST;
	dev->priv_flags |= IFF_NO_QUEUE;
	dev->features |= FEATURES;
	dev->hw_features |= FEATURES;
	dev->hw_enc_features |= FEATURES;
	dev->max_mtu = FRAME_MAX;
	eth_hw_addr_random(dev);
}

static struct rtnl_link_ops link_ops __read_mostly = {
	.kind = "benchnic",
	.priv_size = sizeof(struct nic),
	.setup = setup,
};

static int __init benchnic_init(void)
{
	int err = rtnl_link_register(&link_ops);

	if (err)
		return err;
	if (proc_create("benchnic", 0600, NULL, &proc_ops))
		return 0;
	rtnl_link_unregister(&link_ops);
	return -ENOMEM;
}

static void __exit benchnic_exit(void)
{
	remove_proc_entry("benchnic", NULL);
	rtnl_link_unregister(&link_ops);
}

module_init(benchnic_init);
module_exit(benchnic_exit);
MODULE_DESCRIPTION("Network card that makes the packets it receives");
MODULE_LICENSE("GPL");
