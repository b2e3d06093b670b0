"""The function's job as it is usually written: Python with boto3. A fixture of the benches, to compare with; nobody should run it.

It reads the same tags, asks the same question of the nodes, and moves the address after three failures in a row. It has no memory, brake,
drain, events or verification. The loop at the end is what Lambda's own Python runtime does.
"""

import http.client
import json
import os
import time

import boto3

PREFIX = "eipwatch:"
FALL = 3
FAST_S = 0.5
TIMEOUT_S = 1

# As AWS advises: clients are made once, outside the handler.
ec2 = boto3.client("ec2")


def tags(resource):
    return {tag["Key"]: tag["Value"] for tag in resource.get("Tags", [])}


def serves(ip, check):
    """Whether a node answers `http:PORT/PATH`."""
    port, path = check.removeprefix("http:").split("/", 1)
    try:
        connection = http.client.HTTPConnection(ip, int(port), timeout=TIMEOUT_S)
        connection.request("GET", "/" + path)
        return 200 <= connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def fails(ip, check):
    for attempt in range(FALL):
        if attempt:
            time.sleep(FAST_S)
        if serves(ip, check):
            return False
    return True


def handler(event, context):
    only = [{"Name": "tag-key", "Values": [PREFIX + "cluster"]}]
    addresses = ec2.describe_addresses(Filters=only)["Addresses"]
    pages = ec2.get_paginator("describe_instances").paginate(Filters=only)
    nodes = [node for page in pages for group in page["Reservations"] for node in group["Instances"]]
    clusters = []
    for address in addresses:
        cluster, check = tags(address)[PREFIX + "cluster"], tags(address)[PREFIX + "check"]
        own = [node for node in nodes if tags(node).get(PREFIX + "cluster") == cluster and node["State"]["Name"] == "running"]
        holder = next((node for node in own if node["InstanceId"] == address.get("InstanceId")), None)
        others = [node for node in own if node is not holder]
        healthy = [node for node in others if serves(node["PrivateIpAddress"], check)]
        moved = None
        if healthy and (holder is None or fails(holder["PrivateIpAddress"], check)):
            moved = healthy[0]["InstanceId"]
            ec2.associate_address(AllocationId=address["AllocationId"], InstanceId=moved, AllowReassociation=True)
        clusters.append({"cluster": cluster, "public_ip": address["PublicIp"], "moved_to": moved})
    print(json.dumps({"event": "sweep", "clusters": clusters}), flush=True)
    return {"clusters": clusters}


def main():
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    while True:
        connection.request("GET", "/2018-06-01/runtime/invocation/next")
        answer = connection.getresponse()
        event = json.loads(answer.read())
        request = answer.headers["Lambda-Runtime-Aws-Request-Id"]
        connection.request("POST", f"/2018-06-01/runtime/invocation/{request}/response", json.dumps(handler(event, None)))
        connection.getresponse().read()


main()
