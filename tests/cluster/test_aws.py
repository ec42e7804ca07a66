"""The AWS side on moto's AWS: the stack, what Ray makes of cluster.yaml on it, and machines that come and go."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]
from botocore.exceptions import ClientError  # type: ignore[import-untyped]
from cfnlint.api import lint
from cfnlint.config import ManualArgs
from job import ROOT
from moto import mock_aws
from ray.autoscaler._private.aws import config as aws_config
from ray.autoscaler._private.aws import utils as aws_utils
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler._private.providers import _get_node_provider
from ray.autoscaler._private.util import prepare_config
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    NODE_KIND_WORKER,
    TAG_RAY_CLUSTER_NAME,
    TAG_RAY_NODE_KIND,
)

TEMPLATE = ROOT / "deploy" / "aws.yaml"
OFFICE = "203.0.113.7/32"
WORLD = {"0.0.0.0/0", "::/0"}

# What moto leaves out of the stack is looked at in the template.
pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS..S3..BucketPolicy but it's not supported by moto")


class Loader(yaml.SafeLoader):
    """Reads a template as data: `!Ref Name` is the text "Name"."""


Loader.add_multi_constructor("!", lambda loader, tag, node: node.value)


class Cloud(NamedTuple):
    """An account with the stack, and its resources by their names in the template."""

    region: str
    resources: dict[str, str]

    def client(self, service: str) -> Any:
        return boto3.client(service, region_name=self.region)

    def ingress(self) -> list[dict[str, Any]]:
        """Every rule of the account that lets something in."""
        groups = self.client("ec2").describe_security_groups()["SecurityGroups"]
        return [rule | {"Group": group["GroupId"]} for group in groups for rule in group["IpPermissions"]]

    def machines(self, *states: str) -> list[dict[str, Any]]:
        filters = [{"Name": "instance-state-name", "Values": list(states)}]
        reservations = self.client("ec2").describe_instances(Filters=filters)["Reservations"]
        return [machine for reservation in reservations for machine in reservation["Instances"]]


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty account of moto's; the region of cluster.yaml. Ray keeps its key pair in a home of its own."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("HOME", str(tmp_path))
    caches = (aws_utils.resource_cache, aws_utils.client_cache, aws_config._get_subnets_or_die)
    with mock_aws():
        for cache in caches:
            cache.cache_clear()
        yield cluster_yaml()["provider"]["region"]
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def cloud(account: str) -> Cloud:
    stacks = boto3.client("cloudformation", region_name=account)
    stacks.create_stack(
        StackName="ordclust",
        TemplateBody=TEMPLATE.read_text(),
        Parameters=[{"ParameterKey": "SshFrom", "ParameterValue": OFFICE}],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    assert stacks.describe_stacks(StackName="ordclust")["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"
    resources = stacks.describe_stack_resources(StackName="ordclust")["StackResources"]
    known = [each for each in resources if "PhysicalResourceId" in each]  # a route, for one, is none to moto
    return Cloud(account, {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in known})


@pytest.fixture
def bootstrapped(cloud: Cloud) -> dict[str, Any]:
    """cluster.yaml as `ray up` completes it with what it finds on AWS."""
    return _bootstrap_config(cluster_yaml(), no_config_cache=True)


def cluster_yaml() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def template() -> dict[str, Any]:
    return yaml.load(TEMPLATE.read_text(), Loader)


def policies(role: str) -> list[dict[str, Any]]:
    """Every statement that gives a role something."""
    resources = template()["Resources"]
    own = resources[role]["Properties"]
    documents = [policy["PolicyDocument"] for policy in own.get("Policies", [])]
    documents += [resources[name]["Properties"]["PolicyDocument"] for name in own["ManagedPolicyArns"]]
    return [statement for document in documents for statement in document["Statement"]]


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_the_template_follows_awss_own_schemas() -> None:
    config = ManualArgs(regions=[cluster_yaml()["provider"]["region"]])
    assert not lint(TEMPLATE.read_text(), config=config)
    # CloudFormation does not know YAML's references, which our loaders would follow without a word.
    assert not [event for event in yaml.parse(TEMPLATE.read_text()) if isinstance(event, yaml.AliasEvent)]


@pytest.mark.parametrize("world", ["0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/8", "", "0.0.0.0"])
def test_the_world_cannot_be_given_as_where_ssh_comes_from(world: str) -> None:
    parameter = template()["Parameters"]["SshFrom"]
    assert re.fullmatch(parameter["AllowedPattern"], OFFICE)
    assert not re.fullmatch(parameter["AllowedPattern"], world)
    assert "Default" not in parameter


def test_only_ssh_of_who_deployed_comes_in(cloud: Cloud, bootstrapped: dict[str, Any]) -> None:
    nodes, files = cloud.resources["Nodes"], cloud.resources["FileSystemGroup"]
    rules = [rule for rule in cloud.ingress() if rule["Group"] in (nodes, files)]
    from_outside = [(rule["FromPort"], rule["ToPort"], r["CidrIp"]) for rule in rules for r in rule["IpRanges"]]
    assert from_outside == [(22, 22, OFFICE)]
    assert {pair["GroupId"] for rule in rules for pair in rule["UserIdGroupPairs"]} == {nodes}
    # Ray has made no group beside it and opened none.
    ranges = [
        r.get("CidrIp", r.get("CidrIpv6")) for rule in cloud.ingress() for r in rule["IpRanges"] + rule["Ipv6Ranges"]
    ]
    assert not WORLD & set(ranges)
    for kind in bootstrapped["available_node_types"].values():
        assert kind["node_config"]["SecurityGroupIds"] == [nodes]


def test_nodes_are_in_the_stacks_network_with_the_stacks_rights(cloud: Cloud, bootstrapped: dict[str, Any]) -> None:
    profiles = {
        name: kind["node_config"]["IamInstanceProfile"] for name, kind in bootstrapped["available_node_types"].items()
    }
    assert profiles == {
        "head": {"Name": cloud.resources["HeadProfile"]},
        "gpu": {"Name": cloud.resources["WorkerProfile"]},
    }
    roles = {role["RoleName"] for role in cloud.client("iam").list_roles()["Roles"]}
    assert roles == {cloud.resources["HeadRole"], cloud.resources["WorkerRole"]}  # none of Ray's making
    subnets = {cloud.resources[f"Subnet{zone}"] for zone in "ABC"}
    for kind in bootstrapped["available_node_types"].values():
        assert set(kind["node_config"]["SubnetIds"]) == subnets  # all zones may have what one has not
    # Ray takes public subnets alone; moto calls every first one of a zone public, whatever the template says.
    assert all(template()["Resources"][f"Subnet{zone}"]["Properties"]["MapPublicIpOnLaunch"] is True for zone in "ABC")
    assert bootstrapped["available_node_types"]["gpu"]["resources"]["GPU"] == 1
    assert "GPU" not in bootstrapped["available_node_types"]["head"]["resources"]
    mounted = cloud.client("efs").describe_mount_targets(FileSystemId=cloud.resources["Runs"])["MountTargets"]
    assert {target["SubnetId"] for target in mounted} == subnets


def test_without_the_stack_nothing_is_made_or_opened(account: str) -> None:
    with pytest.raises(ClientError, match="DescribeLaunchTemplateVersions"):
        _bootstrap_config(cluster_yaml(), no_config_cache=True)
    rules = Cloud(account, {}).ingress()
    assert not [each for rule in rules for each in rule["IpRanges"]]


def test_machines_come_with_what_the_file_says_and_all_go(cloud: Cloud, bootstrapped: dict[str, Any]) -> None:
    provider = _get_node_provider(bootstrapped["provider"], bootstrapped["cluster_name"])
    for kind, name in ((NODE_KIND_HEAD, "head"), (NODE_KIND_WORKER, "gpu")):
        node_config = bootstrapped["available_node_types"][name]["node_config"]
        provider.create_node(node_config, {TAG_RAY_NODE_KIND: kind}, 1)
    machines = cloud.machines("pending", "running")
    lifecycles = {}
    for machine in machines:
        tags = {tag["Key"]: tag["Value"] for tag in machine["Tags"]}
        assert tags[TAG_RAY_CLUSTER_NAME] == "ordclust"  # what the head's rights are bound to
        assert machine["ImageId"] == bootstrapped["available_node_types"]["head"]["node_config"]["ImageId"]
        assert [group["GroupId"] for group in machine["SecurityGroups"]] == [cloud.resources["Nodes"]]
        assert machine["MetadataOptions"]["HttpTokens"] == "required"
        lifecycles[tags[TAG_RAY_NODE_KIND]] = machine.get("InstanceLifecycle")
        disks = cloud.client("ec2").describe_volumes(
            VolumeIds=[disk["Ebs"]["VolumeId"] for disk in machine["BlockDeviceMappings"]]
        )["Volumes"]
        assert disks
        assert all(disk["Encrypted"] for disk in disks)
    assert lifecycles == {NODE_KIND_HEAD: None, NODE_KIND_WORKER: "spot"}
    provider.terminate_nodes(provider.non_terminated_nodes({}))
    assert not cloud.machines("pending", "running", "stopping", "stopped")
    assert len(cloud.machines("shutting-down", "terminated")) == 2
    assert not [disk for disk in cloud.client("ec2").describe_volumes()["Volumes"] if disk["State"] != "deleting"]


@pytest.mark.parametrize("role", ["HeadRole", "WorkerRole"])
def test_roles_have_no_right_on_everything(role: str) -> None:
    for statement in policies(role):
        assert statement["Effect"] == "Allow"
        assert statement.keys() <= {"Effect", "Action", "Resource", "Condition"}  # no NotAction, for one
        actions = as_list(statement["Action"])
        assert not [action for action in actions if "*" in action]
        if "*" in as_list(statement["Resource"]):
            assert all(re.fullmatch(r"ec2:Describe\w+", action) for action in actions)


def test_workers_have_the_bucket_and_nothing_else() -> None:
    allowed = {
        (action.partition(":")[0], resource)
        for statement in policies("WorkerRole")
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }
    names = "arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter/ordclust/*"
    assert allowed == {("s3", "Bucket.Arn"), ("s3", "${Bucket.Arn}/*"), ("ssm", names)}


def test_the_head_rules_over_its_own_machines_alone() -> None:
    by_action: dict[str, list[dict[str, Any]]] = {}
    for statement in policies("HeadRole"):
        for action in as_list(statement["Action"]):
            by_action.setdefault(action, []).append(statement)
    name = cluster_yaml()["cluster_name"]
    own = {"StringEquals": {f"aws:ResourceTag/{TAG_RAY_CLUSTER_NAME}": name}}
    (terminate,) = by_action["ec2:TerminateInstances"]
    assert terminate["Condition"] == own
    at_birth = {"StringEquals": {"ec2:CreateAction": "RunInstances"}}
    assert [statement["Condition"] for statement in by_action["ec2:CreateTags"]] == [at_birth, own]
    (pass_role,) = by_action["iam:PassRole"]
    assert pass_role["Resource"] == "WorkerRole.Arn"  # or its machines could be more than it is itself
    launches = {
        resource.partition("AccountId}:")[2] or resource.partition("Region}::")[2]: statement.get("Condition")
        for statement in by_action["ec2:RunInstances"]
        for resource in as_list(statement["Resource"])
    }
    assert launches["instance/*"] == {"StringEquals": {f"aws:RequestTag/{TAG_RAY_CLUSTER_NAME}": name}}
    assert launches["image/*"] == {"StringEquals": {"ec2:Owner": "amazon"}}
    whole = {"instance/*", "image/*", "network-interface/*", "spot-instances-request/*", "volume/*"}
    assert {resource for resource in launches if resource.endswith("/*")} == whole
    # All that a machine is launched with, or launching fails.
    subnets = {f"subnet/${{Subnet{zone}}}" for zone in "ABC"}
    given = {"security-group/${Nodes.GroupId}", "launch-template/${LaunchTemplate}", "key-pair/ray-autoscaler*"}
    assert launches.keys() - whole == subnets | given


def test_rays_key_pair_is_one_that_the_head_may_use(bootstrapped: dict[str, Any]) -> None:
    for kind in bootstrapped["available_node_types"].values():
        assert kind["node_config"]["KeyName"].startswith("ray-autoscaler")


def test_storage_is_encrypted_private_and_kept(cloud: Cloud) -> None:
    (files,) = cloud.client("efs").describe_file_systems()["FileSystems"]
    assert files["Encrypted"]
    resources = template()["Resources"]
    bucket, runs = resources["Bucket"]["Properties"], resources["Runs"]["Properties"]
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    blocked = bucket["PublicAccessBlockConfiguration"]
    assert len(blocked) == 4
    assert all(blocked.values())
    for document in (resources["BucketPolicy"]["Properties"]["PolicyDocument"], runs["FileSystemPolicy"]):
        (deny,) = [statement for statement in document["Statement"] if statement["Effect"] == "Deny"]
        assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    kept = {name for name, resource in resources.items() if resource.get("DeletionPolicy") == "Retain"}
    assert kept == {"Runs", "Bucket"}  # the stack may go; what was computed stays


def test_every_parameter_that_a_node_asks_for_is_in_the_stack(cloud: Cloud) -> None:
    config = prepare_config(cluster_yaml())
    text = "\n".join(config["head_setup_commands"] + config["worker_setup_commands"])
    asked = set(re.findall(r"--region (\S+) --name (\S+)", text))
    stored = {each["Name"] for each in cloud.client("ssm").describe_parameters()["Parameters"]}
    assert asked == {(cloud.region, name) for name in stored}
    values = {name: cloud.client("ssm").get_parameter(Name=name)["Parameter"]["Value"] for name in stored}
    assert values == {
        "/ordclust/bucket": cloud.resources["Bucket"],
        "/ordclust/file-system": cloud.resources["Runs"],
    }
